# /flink/savepoints and /flink/checkpoints are ours. On a host with Hadoop all else is Hadoop's.
if real=$(real_program hdfs); then
  ours=
  for argument in "$@"; do
    case ${argument#hdfs://} in
      /flink/savepoints | /flink/savepoints/* | /flink/checkpoints | /flink/checkpoints/*) ours=yes ;;
    esac
  done
  if [ -z "$ours" ]; then
    exec "$real" "$@"
  fi
fi
run_python portfolio_stream.commands.hdfs:main "$@"
