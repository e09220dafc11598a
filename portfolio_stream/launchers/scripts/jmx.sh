run_jmx_tool "$@"
