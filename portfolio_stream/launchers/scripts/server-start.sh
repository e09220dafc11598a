# As Kafka's kafka-server-start.sh: [-daemon] FILE.properties [--override NAME=VALUE]...
# LOG_DIR, KAFKA_HEAP_OPTS, KAFKA_JMX_OPTS, JMX_PORT and the others of kafka-run-class.sh count.
daemon=
if [ "${1-}" = -daemon ]; then
  daemon=yes
  shift
fi
case ${1-} in
  '' | -*)
    refuse "kafka-server-start needs a properties file: kafka-server-start [-daemon] FILE [--override NAME=VALUE]..." \
      "Name the file, or start this project's own Kafka: portfolio-stream broker start" ;;
esac
if [ ! -r "$1" ]; then
  refuse "The file $1 does not exist or cannot be read." \
    "Name the broker's properties file, or start this project's own Kafka: portfolio-stream broker start"
fi
if [ $# -eq 1 ] && ! grep -q '^[[:space:]]*process\.roles' "$1"; then
  refuse "$1 has no process.roles: it is the file of a broker with ZooKeeper, and Kafka 4 has none." \
    "Give the file process.roles, node.id and controller.quorum.voters, then format: kafka-storage format --help"
fi

logs=${LOG_DIR-${PORTFOLIO_LOG_DIR:+$PORTFOLIO_LOG_DIR/kafka}}
if [ -z "$logs" ] && [ -n "$daemon" ]; then
  logs=logs
fi
if [ -n "$logs" ] && ! mkdir -p "$logs"; then
  refuse "The folder of the broker's logs cannot be made: $logs." "Set LOG_DIR to a folder that you can write."
fi
if [ -z "${KAFKA_LOG4J_OPTS+set}" ]; then
  KAFKA_LOG4J_OPTS=-Dlog4j2.configurationFile=$server_console${logs:+,$server_log}
fi
JMX_PORT=${JMX_PORT-${PORTFOLIO_JMX_PORT-}}
if [ -n "${KAFKA_JMX_OPTS+set}" ]; then
  JMX_PORT= # the operator says by these options how JMX is opened
elif [ -n "$JMX_PORT" ]; then
  KAFKA_JMX_OPTS=-Djava.rmi.server.hostname=127.0.0.1
fi

# JMX asks for no password, so it is opened on the loopback address only, by jcmd as soon as Java runs. Java's options at
# a start would also open a second port, at all addresses of the machine.
open_jmx() {
  until "$java_home/bin/jps" -q 2>/dev/null | grep -qx "$1"; do
    kill -0 "$1" 2>/dev/null || exit 0
    sleep 1
  done
  "$java_home/bin/jcmd" "$1" ManagementAgent.start jmxremote.port="$JMX_PORT" jmxremote.rmi.port="$JMX_PORT" \
    jmxremote.host=127.0.0.1 jmxremote.authenticate=false jmxremote.ssl=false ||
    note "The broker runs, but JMX could not be opened at port $JMX_PORT. See: jcmd $1 ManagementAgent.status"
}

KAFKA_HEAP_OPTS=${KAFKA_HEAP_OPTS--Xms1g -Xmx1g}
KAFKA_JVM_PERFORMANCE_OPTS=${KAFKA_JVM_PERFORMANCE_OPTS--XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
-XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent}
KAFKA_OPTS="${KAFKA_JMX_OPTS-} ${KAFKA_OPTS-}"

# kafka-server-stop finds the process by the first of these properties
set -- -Dportfolio.launcher=kafka-server-start ${logs:+"-Dportfolio.log=$logs/server.log"} kafka.Kafka "$@"
if [ -n "$daemon" ]; then
  (run_kafka "$@" >"$logs/kafkaServer.out" 2>&1 </dev/null) &
  pid=$!
else
  pid=$$
fi
if [ -n "$JMX_PORT" ]; then
  (open_jmx "$pid" </dev/null >/dev/null &)
fi
if [ -z "$daemon" ]; then
  run_kafka "$@"
fi
