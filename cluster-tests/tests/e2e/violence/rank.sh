# A rank of a gang: rank.sh PRIMARY-HOST PROGRAM [ARGUMENTS]. On the primary's host the script holds the cores.
primary=$1
shift
rank=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}
tell rank-start "$rank"
if [ "$host" != "$primary" ]; then hold_cores; fi
case $1 in
work) work "$2" ;;
*) "$@" >/dev/null ;;
esac
code=$?
tell rank-end "$rank:$code"
exit "$code"
