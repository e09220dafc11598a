# Stops the brokers that kafka-server-start started: all of them, or the one of a properties file.
# Kafka's own script would also stop every other Kafka of the host.
case ${1-} in
  -*)
    refuse "kafka-server-stop takes no options here." "Name the properties file of the broker: kafka-server-stop FILE" ;;
esac
mark=-Dportfolio.launcher=kafka-server-start
if [ -d /proc/self ]; then
  pids=$(grep -lsaF -e "$mark" /proc/[0-9]*/cmdline | cut -d / -f 3)
else
  pids=$(ps -Awwo pid=,args= | grep -F -e "$mark" | grep -v grep | awk '{print $1}')
fi
stopped=
for pid in $pids; do
  line=$( (tr '\0' ' ' </proc/"$pid"/cmdline || ps -wwo args= -p "$pid") 2>/dev/null)
  case "$line " in
    *" kafka.Kafka ${1:+$1 }"*) kill -TERM "$pid" 2>/dev/null && stopped=yes ;;
  esac
done
if [ -z "$stopped" ]; then
  refuse "No broker of kafka-server-start runs${1:+ with $1}." \
    "Stop this project's own Kafka by: portfolio-stream broker stop"
fi
