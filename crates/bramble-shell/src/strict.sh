# The beginning of every script. It takes no variables and defines: best_effort, attempt, hidden.
#
# A script ends at the first command that fails. A condition switches that off for all that it calls, functions included, so
# functions are not called in conditions, except those that are a single question. shellcheck (SC2310, SC2312) watches over
# this in `make lint`.
set -eu
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec 3>&1

# Runs a program that may fail without harm. What failed is told, and stands in the log of the run.
best_effort() { # program…
    _failed=0
    _said=$("$@" 2>&1 </dev/null 3>&-) || _failed=$?
    [ "$_failed" = 0 ] || printf '@tried %s %s: %s\n' "$_failed" "$*" "$(printf %s "$_said" | tr '\n' ' ' | cut -c 1-200)" >&3
}

# Runs a function to its first failure and goes on: $rc says how it ended. What it sets is lost. Not for conditions.
attempt() { # function…
    set +e
    (
        set -e
        "$@"
    )
    rc=$?
    set -e
}
