# Whose turn it is on a node. Takes B; RUN and WHO, the run that sends this script and who began it; and SEEN, what was written
# there when RUN looked at the node. Defines: take_turn; one_turn, for which it takes lock.sh.

# What was planned is only done on a node that nobody else has changed since. Called with the lock of the node.
take_turn() {
    _last=
    [ ! -r "$B/run" ] || IFS= read -r _last <"$B/run" || :
    _n=0
    case $_last in
    "$RUN".*)
        _n=${_last#"$RUN".}
        _n=${_n%% *}
        ;;
    "$SEEN") ;;
    *) echo "@stale $_last"; exit 76 ;;
    esac
    [ -d "$B" ] || { mkdir -p "$B"; chmod 700 "$B"; }
    # Each turn has a number: who looked between two turns of one run has seen what is not true any more.
    printf '%s.%s %s\n' "$RUN" "$((_n + 1))" "$WHO" >"$B/.run"
    sync "$B/.run"
    mv -f "$B/.run" "$B/run"
}

# The same for scripts that do not keep the lock.
one_turn() { (lock_node; take_turn); }
