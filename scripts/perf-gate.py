#!/usr/bin/env python3
"""Measures this tree against an older one, turn about on one machine, and fails where it became slower than allowed.

usage: perf-gate.py --base REVISION [--limit 1.10] [--rounds 9]

Both are built by scripts/release-build.sh. What is compared is CPU time, user and system, of whole runs of the binary,
as medians; a difference below two milliseconds is noise and never fails.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOISE_S = 0.002

parser = argparse.ArgumentParser()
parser.add_argument('--base', required=True, help='the revision that it is measured against')
parser.add_argument('--limit', type=float, default=1.10, help='how much of the base it may take')
parser.add_argument('--rounds', type=int, default=9)
parser.add_argument('--dev', action='store_true', help='measure dev builds, which prove nothing, to try this script')
opt = parser.parse_args()


def build(tree):
    command = ['cargo', 'build', '--locked', '--bin', 'debvisor'] if opt.dev else ['scripts/release-build.sh', '--bin', 'debvisor']
    subprocess.run(command, cwd=tree, check=True)
    place = 'target' if opt.dev else 'target/dist'
    return next((tree / place / 'x86_64-unknown-linux-gnu').glob('[dr]e*/debvisor'))


def figures(tree):
    """The bench program of this tree makes the inputs for both."""
    command = ['cargo', 'build', '--locked', '--bench', 'figures', '--message-format', 'json']
    done = subprocess.run(command, cwd=tree, check=True, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        if '"name":"figures"' in line and '"executable":"' in line:
            return line.split('"executable":"')[1].split('"')[0]
    raise RuntimeError('the bench program was not built')


def cpu(argv, cwd):
    child = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f'{argv} ended with {child.returncode}')
    return usage.ru_utime + usage.ru_stime


def main():
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        base = scratch / 'base'
        subprocess.run(['git', 'worktree', 'add', '--quiet', '--detach', base, opt.base], cwd=ROOT, check=True)
        try:
            now, then = build(ROOT), build(base)
            inputs = scratch / 'inputs'
            subprocess.run([figures(ROOT), 'prepare', inputs, '200'], check=True, stdout=subprocess.DEVNULL)
            (scratch / 'blob').write_bytes(os.urandom(1 << 20) * 256)
            named = ['--trusted-root', 'trusted_root.json', '--certificate-identity-regexp', '.*',
                     '--certificate-oidc-issuer-regexp', '.*']
            bundles = sorted(path.name for path in inputs.glob('*.sigstore.json'))
            artifacts = [name.replace('.sigstore.json', '.bin') for name in bundles]
            batch = [*artifacts, *(word for name in bundles for word in ('--bundle', name))]
            runs = {
                'one bundle': (['verify', artifacts[0], '--bundle', bundles[0], *named], inputs),
                'two hundred bundles': (['verify', *batch, *named], inputs),
                'hashing 256 MiB': (['checksum', 'create', 'blob'], scratch),
            }
            slower = []
            for name, (words, cwd) in runs.items():
                times = {now: [], then: []}
                for number in range(opt.rounds + 1):
                    for binary in (now, then):
                        took = cpu([binary, *words], cwd)
                        if number > 0:  # the first round warms the caches
                            times[binary].append(took)
                ours, theirs = statistics.median(times[now]), statistics.median(times[then])
                ratio = ours / max(theirs, 1e-9)
                print(f'{name:24} {theirs * 1000:9.1f} ms before {ours * 1000:9.1f} ms now {ratio:6.2f}')
                if ratio > opt.limit and ours - theirs > NOISE_S:
                    slower.append(name)
            if slower:
                print(f'::error title=Performance::slower than {opt.limit:.0%} of {opt.base}: {", ".join(slower)}')
                return 1
            return 0
        finally:
            subprocess.run(['git', 'worktree', 'remove', '--force', base], cwd=ROOT, check=False)


sys.exit(main())
