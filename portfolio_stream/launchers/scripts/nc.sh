# Only `nc HOST 2181` on the loopback address is ours: ZooKeeper's port, which Kafka 4 does not have.
case "$#-${2-}-${1-}" in
  2-2181-localhost | 2-2181-127.* | 2-2181-::1)
    run_python portfolio_stream.commands.netcat:four_letter_word "$(real_program nc)" "$@"
    ;;
esac
if real=$(real_program nc); then
  exec "$real" "$@"
fi
run_python portfolio_stream.commands.netcat:probe "$@"
