# bash completion for quire(1). What there is to complete is asked of the command itself.

_quire_processes() {
  quire top --once 2>/dev/null | awk 'NR > 2 { print $1 }'
}

_quire_options() { # COMMAND: the long options that its --help lists
  quire "$1" --help 2>/dev/null | grep -oE '(^| )--[a-z_-]+(\[?=)?' | tr -d ' [' | sort -u
}

_quire() {
  local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} i
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W "$(quire --help 2>/dev/null | sed -n 's/^  \([a-z]\{1,\}\) .*/\1/p') --help --version" \
      -- "$current")
    return
  fi
  if [[ $command == run ]]; then
    # Behind the program's name it is that program's line.
    for ((i = 2; i < COMP_CWORD; i++)); do
      [[ ${COMP_WORDS[i]} == -* || ${COMP_WORDS[i]} == = || ${COMP_WORDS[i - 1]} == = || ${COMP_WORDS[i - 1]} == -o ]] || {
        declare -F _command_offset >/dev/null && _command_offset "$i"
        return
      }
    done
  fi
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(_quire_options "$command")" -- "$current")
    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
    return
  fi
  case $command in
    run) mapfile -t COMPREPLY < <(compgen -c -- "$current") ;;
    stat | doctor | compact | purge | map | record)
      mapfile -t COMPREPLY < <(compgen -W "$(_quire_processes)" -- "$current") ;;
  esac
}

complete -F _quire quire
