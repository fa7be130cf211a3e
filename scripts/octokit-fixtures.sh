#!/usr/bin/env bash
# Puts @octokit/fixtures, answers that GitHub's API really gave, into target/tools/octokit-fixtures. Does nothing where
# this version is there. Nothing of it is run: it is read by tests/it/watch/recorded.rs.
set -euo pipefail
cd "$(dirname "$0")/.."

version=23.1.2
place=target/tools/octokit-fixtures
package=$place/node_modules/@octokit/fixtures/package.json
if [[ -f $package ]] && grep -q "\"version\": \"$version\"" "$package"; then exit 0; fi

rm -rf "$place"
mkdir -p "$place"
npm install --loglevel=error --no-audit --no-fund --ignore-scripts --omit=dev --prefix "$place" "@octokit/fixtures@$version"
grep -q "\"version\": \"$version\"" "$package"
