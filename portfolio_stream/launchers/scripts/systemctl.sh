# start, stop, restart, status and is-active of our units, where no systemd has them. All else is for the real systemctl.
set -f
real=$(real_program systemctl) || real=
hand_over() {
  [ -z "$real" ] || exec "$real" "$@"
  echo "$name: command not found" >&2
  exit 127
}

verb= units=
for argument in "$@"; do
  case $argument in
    -*) ;;
    *) if [ -z "$verb" ]; then verb=$argument; else units="$units ${argument%.service}"; fi;;
  esac
done
case $verb in start | stop | restart | status | is-active) ;; *) hand_over "$@";; esac
[ -n "$units" ] || hand_over "$@"
for unit in $units; do
  case $unit in kafka | zookeeper | portfolio-*) ;; *) hand_over "$@";; esac
  if [ -n "$real" ] && [ -d /run/systemd/system ] && "$real" cat "$unit.service" >/dev/null 2>&1; then
    hand_over "$@"
  fi
done
run_python portfolio_stream.commands.systemctl:main "$verb" $units
