# The beginning of every script. It takes no variables and defines: best_effort, attempt, which sets rc.
#
# A script ends at the first command that fails. A condition switches that off for all that it calls, functions included, so
# functions are not called in conditions, except questions: those that are one program, whose definition ends with
# `# question`. A pipe's exit code is its last program's: on its left stands nothing that may fail, but text that is there
# already. scripts/lint-shell.sh watches over the first, and the tests of the libraries over both.
set -eu
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec 3>&1

# Runs a program that may fail without harm. What failed is told, and stands in the log of the run.
best_effort() { # program…
    _failed=0
    _said=$("$@" 2>&1 </dev/null 3>&-) || _failed=$?
    [ "$_failed" != 0 ] || return 0
    _said=$(printf %s "$_said" | tr '\n' ' ' | cut -c 1-200)
    printf '@tried %s %s: %s\n' "$_failed" "$*" "$_said" >&3
}

# Runs a function to its first failure and goes on: $rc says how it ended. What it sets is lost. Not for conditions.
attempt() { # function…
    set +e
    (
        set -e
        "$@"
    )
    # shellcheck disable=SC2034 # For those who call it.
    rc=$?
    set -e
}
