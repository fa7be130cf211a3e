#!/bin/bash
# Stands for GitHub's own program: releases are folders below $FAKE_RELEASES.
set -euo pipefail
: "${GH_TOKEN:?gh: no token}"
what="$1 $2"
shift 2
repo= dir=. patterns=() files=() tag=
while (($#)); do
    case $1 in
        --repo) repo=$2; shift 2 ;;
        --dir) dir=$2; shift 2 ;;
        --pattern) patterns+=("$2"); shift 2 ;;
        --verify-tag | --generate-notes | --auto | --squash) shift ;;
        -*) echo "gh: unknown flag $1" >&2; exit 64 ;;
        *) if [[ -z $tag ]]; then tag=$1; else files+=("$1"); fi; shift ;;
    esac
done
case $what in
    "release download")
        [[ -d $FAKE_RELEASES/$repo/$tag ]] || { echo "gh: release not found" >&2; exit 1; }
        mkdir -p "$dir"
        ((${#patterns[@]})) || patterns=('*')
        for pattern in "${patterns[@]}"; do
            found=0
            for file in "$FAKE_RELEASES/$repo/$tag"/$pattern; do
                [[ -e $file ]] || continue
                cp "$file" "$dir/"
                found=1
            done
            ((found)) || { echo "gh: no assets match $pattern" >&2; exit 1; }
        done ;;
    "release create")
        mkdir -p "$FAKE_RELEASES/$repo/$tag"
        cp "${files[@]}" "$FAKE_RELEASES/$repo/$tag/" ;;
    "pr merge") echo "merged $tag" >> "$FAKE_RELEASES/merged" ;;
    *) echo "gh: cannot $what" >&2; exit 64 ;;
esac
