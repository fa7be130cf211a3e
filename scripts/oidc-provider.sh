#!/usr/bin/env bash
# Puts oidc-provider, a certified OpenID provider, into target/tools/oidc-provider. Does nothing where this version is
# there. tests/it/control/oidc.rs logs in at it. Version 8 is the last that runs on the Node of Debian 12.
set -euo pipefail
cd "$(dirname "$0")/.."

version=8.8.1
place=target/tools/oidc-provider
package=$place/node_modules/oidc-provider/package.json
if [[ -f $package ]] && grep -q "\"version\": \"$version\"" "$package"; then exit 0; fi

rm -rf "$place"
mkdir -p "$place"
npm install --loglevel=error --no-audit --no-fund --ignore-scripts --omit=dev --prefix "$place" "oidc-provider@$version"
grep -q "\"version\": \"$version\"" "$package"
