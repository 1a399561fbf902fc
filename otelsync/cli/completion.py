"""``otelsync completion``: a script that lets a shell complete commands, options and sync ids."""

from __future__ import annotations

from typing import Final

import click

_BASH: Final = """\
# eval "$(otelsync completion bash)" in ~/.bashrc
_otelsync() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("${line%%$'\\t'*}")
    done < <("${COMP_WORDS[0]}" _complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _otelsync otelsync
"""
_ZSH: Final = """\
#compdef otelsync
# eval "$(otelsync completion zsh)" in ~/.zshrc, behind compinit; or as a file _otelsync in a directory of $fpath
_otelsync() {
    local line
    local -a found
    for line in "${(@f)$("${words[1]}" _complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] && found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done
    if (( ${#found} )); then
        _describe -V otelsync found
    else
        _files
    fi
}
if [[ ${funcstack[1]} == _otelsync ]]; then
    _otelsync "$@"
else
    compdef _otelsync otelsync
fi
"""
_FISH: Final = """\
# otelsync completion fish > ~/.config/fish/completions/otelsync.fish
function __otelsync_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] _complete -- $words[2..-1] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c otelsync -f -k -a '(__otelsync_complete)'
"""
_SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command(name="completion")
@click.argument("shell", type=click.Choice([*_SCRIPTS]))
def command(shell: str) -> None:
    """A script for a shell, which then completes commands, options and the sync ids of the local store.

    \b
    bash: eval "$(otelsync completion bash)" in ~/.bashrc
    zsh:  eval "$(otelsync completion zsh)" in ~/.zshrc, behind compinit
    fish: otelsync completion fish > ~/.config/fish/completions/otelsync.fish
    """
    click.echo(_SCRIPTS[shell], nl=False)
