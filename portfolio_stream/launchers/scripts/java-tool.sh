# jstat, jps and jcmd of the Java that runs Kafka here. A process of another Java is left to that host's tool.
pid=
for argument in "$@"; do
  case $argument in
    '' | *[!0-9]*) ;;
    *)
      pid=$argument
      break
      ;;
  esac
done
tool=$java_home/bin/$name
if [ -n "$pid" ]; then
  program=$(readlink -f "/proc/$pid/exe" 2>/dev/null || ps -o comm= -p "$pid" 2>/dev/null)
  case ${program##*/} in
    python* | faust)
      refuse "Process $pid is Python: it has no Java heap." \
        "See its memory by: ps -o pid,rss,vsz,args -p $pid; a worker's /metrics has process_resident_memory_bytes"
      ;;
    java)
      if [ "$program" != "$(readlink -f "$java_home/bin/java")" ] && real=$(real_program "$name"); then
        tool=$real
      fi
      ;;
  esac
fi
exec "$tool" "$@"
