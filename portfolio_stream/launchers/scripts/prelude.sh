heap=256m

note() {
  echo "$name: $1" >&2
}

refuse() {
  echo "Error: $1" >&2
  echo "Operator action: $2" >&2
  exit 1
}

# Kafka's own variables count as in kafka-run-class.sh, which leaves the words of each unquoted too.
run_kafka() {
  exec "$java_home/bin/java" ${KAFKA_HEAP_OPTS--Xmx$heap} \
    ${KAFKA_JVM_PERFORMANCE_OPTS--XX:+UseSerialGC -XX:TieredStopAtLevel=1} \
    -XX:SharedArchiveFile="$archive" -XX:+VerifySharedSpaces -Xlog:disable $java_options \
    ${KAFKA_LOG4J_OPTS-"-Dlog4j2.configurationFile=$log4j"} ${KAFKA_OPTS-} \
    -cp "$class_path${CLASSPATH:+:$CLASSPATH}" "$@"
}

run_python() {
  exec "$python" -P -m portfolio_stream.commands.entry "$name" "$@"
}

# JmxTool's address goes through Python: this Java lacks the part of JNDI that the usual addresses need.
run_jmx_tool() {
  address=service:jmx:rmi:///jndi/rmi://:${PORTFOLIO_JMX_PORT:-9999}/jmxrmi # 9999: as JmxTool itself
  takes_address=
  case "$# $* " in
    '0 '* | *' --help '* | *' --version '*) run_kafka org.apache.kafka.tools.JmxTool "$@" ;;
  esac
  for argument in "$@"; do
    shift
    case $takes_address$argument in
      --jmx-url) takes_address=yes: ;;
      --jmx-url=*) address=${argument#*=} ;;
      yes:*)
        address=$argument
        takes_address=
        ;;
      *) set -- "$@" "$argument" ;;
    esac
  done
  address=$("$python" -P -m portfolio_stream.commands.entry "$name" portfolio_stream.commands.jmx:main "$address") || exit
  run_kafka org.apache.kafka.tools.JmxTool --jmx-url "$address" "$@"
}

# The second line tells. It is read without other programs: where those are missing, a launcher would call itself forever.
is_launcher() {
  second=
  { IFS= read -r _ && IFS= read -r second; } <"$1" 2>/dev/null
  case $second in *'Written by `portfolio-stream shell`'*) return 0 ;; esac
  return 1
}

# Passes over every launcher, also those of another folder of ours that is still on PATH.
real_program() (
  IFS=:
  for folder in $PATH; do
    program=$folder/$1
    if [ -f "$program" ] && [ -x "$program" ] && ! is_launcher "$program"; then
      printf '%s\n' "$program"
      exit 0
    fi
  done
  exit 1
)
