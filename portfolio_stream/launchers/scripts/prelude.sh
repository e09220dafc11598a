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
  exec "$java_home/bin/java" ${KAFKA_HEAP_OPTS--Xmx256m} \
    ${KAFKA_JVM_PERFORMANCE_OPTS--XX:+UseSerialGC -XX:TieredStopAtLevel=1} \
    -XX:SharedArchiveFile="$archive" -Xlog:disable $java_options \
    ${KAFKA_LOG4J_OPTS-"-Dlog4j2.configurationFile=$log4j"} ${KAFKA_OPTS-} \
    -cp "$class_path${CLASSPATH:+:$CLASSPATH}" "$@"
}

run_python() {
  exec "$python" -P -m portfolio_stream.commands.entry "$name" "$@"
}

# Passes over every launcher, also those of another folder of ours that is still on PATH.
real_program() (
  IFS=:
  for folder in $PATH; do
    program=$folder/$1
    if [ -f "$program" ] && [ -x "$program" ] && ! head -n 2 "$program" | grep -q 'Written by `portfolio-stream shell`'; then
      printf '%s\n' "$program"
      exit 0
    fi
  done
  exit 1
)
