#!/usr/bin/env python3
"""Makes bills of materials of the same sources with ours and with syft, and compares the sets of package URLs.

usage: compare-syft.py DEBVISOR SYFT [SOURCE...]

Each difference must be one of those that docs/sbom-vs-syft.md explains; another one ends the run with 1.
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEBVISOR, SYFT, *MORE = sys.argv[1:]

GO_MOD = '''module example.com/tool

go 1.22

require (
	github.com/BurntSushi/toml v1.4.0
	github.com/spf13/cobra v1.8.1
	golang.org/x/sys v0.24.0 // indirect
)

replace golang.org/x/sys => golang.org/x/sys v0.25.0
'''
POM = '''<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>org.example</groupId><artifactId>app</artifactId><version>1.0</version>
<properties><slf4j.version>2.0.16</slf4j.version></properties>
<dependencies>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-api</artifactId><version>${slf4j.version}</version></dependency>
<dependency><groupId>junit</groupId><artifactId>junit</artifactId><version>4.13.2</version><scope>test</scope></dependency>
</dependencies></project>
'''
YARN = '''# yarn lockfile v1


"@babel/code-frame@^7.0.0":
  version "7.24.7"
  resolved "https://registry.yarnpkg.com/@babel/code-frame/-/code-frame-7.24.7.tgz#882fd9e09e8ee324e496bd040401c6f046ef4465"

left-pad@^1.3.0:
  version "1.3.0"
  resolved "https://registry.yarnpkg.com/left-pad/-/left-pad-1.3.0.tgz#5b8a3a7765dfe001261dde915589e782f8c94d1e"
'''
REQUIREMENTS = 'Django==4.2.16\nrequests[socks]==2.32.3 ; python_version >= "3.8"\nurllib3>=1.26\n'


def sources(work):
    """Name to folder or file: what is in this repository, what is installed with syft, and what is written here."""
    def folder(name, **files):
        (work / name).mkdir()
        for file, content in files.items():
            (work / name / file.replace('__', '.')).write_text(content)
        return work / name

    cargo = folder('cargo')
    for file in ['Cargo.toml', 'Cargo.lock']:
        shutil.copy(ROOT / file, cargo)
    found = {'Cargo.lock': cargo, 'go.mod': folder('go', go__mod=GO_MOD), 'pom.xml': folder('maven', pom__xml=POM),
             'yarn.lock': folder('yarn', yarn__lock=YARN),
             'requirements.txt': folder('python', requirements__txt=REQUIREMENTS)}
    program = pathlib.Path(SYFT).resolve()
    found['a Go program: syft itself'] = program
    packages = next((parent for parent in program.parents if parent.name == 'site-packages'), None)
    if packages:
        installed = folder('site-packages')
        for info in packages.glob('*.dist-info'):
            (installed / info.name).mkdir()
            shutil.copy(info / 'METADATA', installed / info.name)
        found['installed Python distributions'] = installed
    lock = ROOT / 'target/tools/interop/node/package-lock.json'
    if lock.exists():
        npm = folder('npm')
        for file in ['package.json', 'package-lock.json']:
            shutil.copy(lock.parent / file, npm)
        found['package-lock.json'] = npm
    return found | {path: pathlib.Path(path) for path in MORE}


def run(*argv):
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'{argv[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}')
    return json.loads(done.stdout)


def plain(purl):
    """Both write one package in more than one way: docs/sbom-vs-syft.md, "Spelling"."""
    purl = urllib.parse.unquote(purl.split('?')[0])
    if purl.startswith('pkg:golang/'):
        match = re.fullmatch(r'(pkg:golang/[^@#]+)(@[^#]+)?(?:#(.+))?', purl)
        path, version, below = match.groups()
        purl = f'{path}/{below}' if below else path
        purl = (purl + (version or '')).lower()
    return purl


def ours(source):
    document = run(DEBVISOR, 'sbom', 'generate', source, '--quiet')
    described = document['metadata']['component']
    return {plain(one['purl']): one for one in [*document['components'], described] if 'purl' in one}, described


def theirs(source):
    kind = 'file' if source.is_file() else 'dir'
    document = run(SYFT, 'scan', f'{kind}:{source}', '--quiet', '--output', 'cyclonedx-json')
    return {plain(one['purl']) for one in document.get('components', []) if 'purl' in one}


def why_only_ours(component, described):
    """The heading of docs/sbom-vs-syft.md that explains it; nothing where none does."""
    purl = plain(component['purl'])
    if component is described:
        return 'What is described'
    if purl.startswith('pkg:npm/') and component.get('scope') == 'excluded':
        return 'Development dependencies'
    if purl.startswith('pkg:golang/') and 'version' not in component:
        return "A Go program's own version"
    return None


def why_only_theirs(purl, mine):
    if purl.startswith('pkg:golang/') and purl.split('@')[0] in mine:
        return "A Go program's own version"
    return None


def main():
    unexplained = 0
    with tempfile.TemporaryDirectory() as work:
        for name, source in sources(pathlib.Path(work)).items():
            mine, described = ours(source)
            other = theirs(source)
            reasons = {}
            for purl in sorted(set(mine) - other):
                reasons.setdefault(why_only_ours(mine[purl], described), []).append(f'+{purl}')
            for purl in sorted(other - set(mine)):
                reasons.setdefault(why_only_theirs(purl, mine), []).append(f'-{purl}')
            print(f'{name}: {len(set(mine) & other)} the same, {len(set(mine) - other)} only ours, '
                  f'{len(other - set(mine))} only syft\'s')
            for reason, purls in reasons.items():
                print(f'  {reason or "UNEXPLAINED"}: {len(purls)}, as {", ".join(purls[:3])}')
            unexplained += len(reasons.get(None, []))
    if unexplained:
        sys.exit(f'{unexplained} differences that docs/sbom-vs-syft.md does not explain')


main()
