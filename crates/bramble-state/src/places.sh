# Files in folders that other users may write to. Their owners can prepare whatever they like there, and swap a folder for a
# link between two commands. So a path is walked one folder at a time, nothing but names in the folder where the script stands
# is written, moved or removed, and what is to lie beside a file is made in a folder that only root can write to. Takes
# nothing. Defines: is_roots, step_in, enter, beside, abandon, settle.

# Whether only root can change which names there are in this folder.
is_roots() { # question
    [ -O . ] && _mode=$(stat -c %a .) && [ "$((0$_mode & 022))" = 0 ]
}

# Goes into a folder of this one, or says that it became something else meanwhile: behind a link the way up leads elsewhere.
# A shell that goes by names (without -P) would resolve all of the path anew.
step_in() { # name
    exec 8<.
    cd -P -- "./$1"
    [ .. -ef /dev/fd/8 ] || { echo "$1 was swapped for a link while bramble went into it"; return 1; }
    exec 8<&-
}

# Goes into a folder, from the root on, and makes those that are missing if it is told to. A link is followed only where
# nobody but root can have put it.
enter() { # folder [make]
    cd /
    _rest=$1/ _links=0
    while [ -n "$_rest" ]; do
        _name=${_rest%%/*} _rest=${_rest#*/}
        case $_name in
        '' | .) continue ;;
        ..)
            cd -P ..
            continue
            ;;
        esac
        if [ -L "./$_name" ]; then
            if [ "$_links" = 40 ] || ! is_roots; then
                echo "$1 leads through a symbolic link that another user can have made ($_name): replace it with a folder, or name the folder that it points to"
                return 1
            fi
            _links=$((_links + 1))
            _link=$(readlink -- "./$_name")
            case $_link in /*) cd / ;; esac
            _rest=$_link/$_rest
            continue
        fi
        if [ "${2:-}" = make ] && [ ! -e "./$_name" ]; then mkdir -- "./$_name"; fi
        step_in "$_name"
    done
}

# Goes into a new folder beside a file, which only root can write to. There `./new` is made, for `settle`.
beside() { # path [make]
    enter "${1%/*}" "${2:-}"
    _work=.${1##*/}.bramble-new
    # A run that was cut off has left it, or somebody has prepared it.
    if [ -e "./$_work" ] || [ -L "./$_work" ]; then rm -rf --one-file-system -- "./$_work"; fi
    mkdir -m 700 -- "./$_work"
    step_in "$_work"
    [ -O . ] || { echo "${1%/*}/$_work was swapped for another folder"; return 1; }
}

# Leaves the folder beside a file, with all that is in it.
abandon() { # path
    cd -P ..
    rm -rf --one-file-system -- "./.${1##*/}.bramble-new"
    cd /
}

# Puts `./new` in the place of the file, and leaves the folder beside it. After a power cut one or the other is there, whole.
settle() { # path
    if [ ! -L ./new ]; then sync ./new; fi
    mv -fT -- ./new "../${1##*/}"
    sync ..
    abandon "$1"
}
