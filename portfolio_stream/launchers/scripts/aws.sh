# The real AWS CLI, with our settings where it does not read them itself: an older one knows neither AWS_REGION nor
# AWS_ENDPOINT_URL, and would ask Amazon instead of the server of the savepoints.
if ! real=$(real_program aws); then
  real=${python%/*}/aws
  if [ ! -x "$real" ]; then
    refuse "The AWS CLI is not installed." \
      "Install it (\`pipx install awscli\`, \`apt-get install awscli\`). Without it: \`portfolio-stream savepoint list\` and \
\`hdfs dfs -ls\` show the savepoints of a bucket, \`hdfs dfs -get\` copies them, \`hdfs dfsadmin -report\` tells whether the \
bucket answers."
  fi
fi
if [ -n "${AWS_REGION-}" ] && [ -z "${AWS_DEFAULT_REGION-}" ]; then
  export AWS_DEFAULT_REGION="$AWS_REGION"
fi
endpoint=${AWS_ENDPOINT_URL_S3:-${AWS_ENDPOINT_URL-}}
case "${1-} $*" in
  *--endpoint-url*) ;;
  s3\ * | s3api\ *)
    if [ -n "$endpoint" ]; then
      exec "$real" --endpoint-url "$endpoint" "$@"
    fi
    ;;
esac
exec "$real" "$@"
