#!/bin/sh
# Prints one assembler file that holds every file of the list (argument 1) as
# data, and the table embed_files sorted by name (embed.h).  Names are
# relative to scripts/; built files go by their base name.
set -eu
name_of() {
	case $1 in
	scripts/*) echo "${1#scripts/}" ;;
	*) basename "$1" ;;
	esac
}
while read -r f; do
	printf '%s\t%s\n' "$(name_of "$f")" "$f"
done < "$1" | LC_ALL=C sort | {
	n=0
	echo '	.section .rodata'
	while IFS="$(printf '\t')" read -r name file; do
		printf '	.balign 16\n.Ld%d:\n	.incbin "%s"\n.Le%d:\n	.byte 0\n' \
			"$n" "$file" "$n"
		printf '.Ln%d:\n	.asciz "%s"\n' "$n" "$name"
		n=$((n + 1))
	done
	echo '	.section .data.rel.ro,"aw"'
	printf '	.balign 16\n	.globl embed_files\nembed_files:\n'
	i=0
	while [ $i -lt $n ]; do
		printf '	.quad .Ln%d, .Ld%d, .Le%d - .Ld%d\n' $i $i $i $i
		i=$((i + 1))
	done
	printf '	.section .rodata\n	.balign 8\n	.globl embed_n\nembed_n:\n	.quad %d\n' "$n"
	echo '	.section .note.GNU-stack,"",@progbits'
}
