# bash completion for quire(1). What there is to complete is asked of the command itself.

_quire_processes() {
  quire top --once 2>/dev/null | awk 'NR > 2 { print $1 }'
}

_quire_options() { # COMMAND: the long options that its --help lists, "=" behind those that take a value
  quire "$1" --help 2>/dev/null | sed -nE 's/^ {2,6}(-[a-z], )?(--[a-z_-]+)(\[?(=))?.*/\2\4/p' | sort -u
}

_quire_value() { # COMMAND OPTION: what it takes as --help has it: FILE, light|dark; "[" before it: or nothing
  local short='(-[a-z], )?' name=$2
  [[ $name == --* ]] || short="($name, )" name='--[a-z_-]+'
  quire "$1" --help 2>/dev/null | sed -nE "s/^ {2,6}$short$name(\\[?)=([^] ]+).*/\\2\\3/p" | head -n 1
}

_quire_files() { # CURRENT [SUFFIX]: files with this suffix, and directories
  mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -X "!*${2-}" -- "$1"; [[ -z ${2-} ]] || compgen -d -- "$1")
  compopt -o filenames
}

# Behind an option that takes a value, it is completed; false: there is none.
_quire_complete_value() { # COMMAND OPTION CURRENT
  local value
  value=$(_quire_value "$1" "$2")
  case ${value#'['} in
    '') return 1 ;;
    FILE*) _quire_files "$3" ;;
    *'|'*) mapfile -t COMPREPLY < <(compgen -W "${value//|/ }" -- "$3") ;;
  esac
  return 0
}

_quire() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} i
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
  # Readline takes "--theme=li" for three words.
  if [[ $current == = && $before == --* ]]; then
    _quire_complete_value "$command" "$before" ''
    return
  fi
  if [[ $before == = ]]; then
    _quire_complete_value "$command" "${COMP_WORDS[COMP_CWORD - 2]}" "$current"
    return
  fi
  if [[ $before == -* && $current != -* && $(_quire_value "$command" "$before") != '['* ]] &&
    _quire_complete_value "$command" "$before" "$current"; then
    return
  fi
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(_quire_options "$command")" -- "$current")
    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
    return
  fi
  case $command in
    run) mapfile -t COMPREPLY < <(compgen -c -- "$current") ;;
    stat | map | doctor | compact | purge | record | top)
      mapfile -t COMPREPLY < <(compgen -W "$(_quire_processes)" -- "$current") ;;
  esac
  case $command in
    stat | map) _quire_files "$current" .qrec ;;
  esac
}

complete -F _quire quire
