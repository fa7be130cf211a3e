//! A small source of every ecosystem: exactly these components, in these scopes, with these edges.

use serde_json::json;

use super::{Sources, set};

const REGISTRY: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

fn cargo_lock(packages: &[(&str, &str, &str, &[&str])]) -> String {
    let mut text = "version = 4\n".to_owned();
    for (name, version, source, dependencies) in packages {
        let list = dependencies.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        text +=
            &format!("\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{source}\ndependencies = [{list}]\n");
    }
    text
}

#[test]
fn cargo_tells_features_builds_and_tests_of_a_workspace_apart() {
    let lock = cargo_lock(&[
        ("app", "0.1.0", "", &["core", "cc", "fast", "on", "tempfile"]),
        ("cc", "1.0.0", REGISTRY, &["shlex"]),
        ("core", "0.2.0", "", &["serde"]),
        ("fast", "3.0.0", REGISTRY, &[]),
        (
            "git-dep",
            "0.5.0",
            "source = \"git+https://git.example/x?tag=v1#0123456789abcdef0123456789abcdef01234567\"",
            &[],
        ),
        ("on", "4.0.0", REGISTRY, &[]),
        ("serde", "1.0.0", REGISTRY, &[]),
        ("shlex", "1.3.0", REGISTRY, &[]),
        ("tempfile", "3.0.0", REGISTRY, &["serde", "git-dep"]),
        ("private", "1.0.0", "source = \"sparse+https://crates.example/index/\"", &[]),
    ]);
    let sources = Sources::new(&[
        ("Cargo.lock", &lock),
        (
            "Cargo.toml",
            "[workspace]\nmembers = [\"core\"]\n[workspace.package]\nversion = \"0.2.0\"\nlicense = \"Zlib\"\n\
             [workspace.dependencies]\nspeed = { package = \"fast\", version = \"3\" }\n\
             [package]\nname = \"app\"\nversion = \"0.1.0\"\n\
             [dependencies]\ncore = { path = \"core\" }\nspeed = { workspace = true, optional = true }\non = { version = \"4\", optional = true }\n\
             [build-dependencies]\ncc = \"1\"\n[target.'cfg(unix)'.dev-dependencies]\ntempfile = \"3\"\n\
             [features]\ndefault = [\"more\"]\nmore = [\"dep:on\"]\n",
        ),
        (
            "core/Cargo.toml",
            "[package]\nname = \"core\"\nversion.workspace = true\nlicense.workspace = true\n[dependencies]\nserde = \"1\"\n",
        ),
        // A lock file of a build that is not looked at.
        ("target/debug/Cargo.lock", "nonsense"),
    ]);
    let bill = sources.bill(&[]);
    assert_eq!(
        bill.listed(),
        set(&[
            "pkg:cargo/cc@1.0.0 excluded",
            "pkg:cargo/core@0.2.0 -",
            "pkg:cargo/fast@3.0.0 optional",
            "pkg:cargo/git-dep@0.5.0?vcs_url=git%2Bhttps:%2F%2Fgit.example%2Fx%400123456789abcdef0123456789abcdef01234567 excluded",
            "pkg:cargo/on@4.0.0 required",
            "pkg:cargo/private@1.0.0?repository_url=https:%2F%2Fcrates.example%2Findex%2F -",
            "pkg:cargo/serde@1.0.0 required",
            "pkg:cargo/shlex@1.3.0 excluded",
            "pkg:cargo/tempfile@3.0.0 excluded",
        ])
    );
    let edges = bill.edges();
    for edge in [
        "pkg:cargo/app@0.1.0 -> pkg:cargo/core@0.2.0",
        "pkg:cargo/core@0.2.0 -> pkg:cargo/serde@1.0.0",
        "pkg:cargo/cc@1.0.0 -> pkg:cargo/shlex@1.3.0",
    ] {
        assert!(edges.contains(edge), "{edge} is not in {edges:#?}");
    }
    assert_eq!(edges.len(), 9);
    assert_eq!(bill.component("pkg:cargo/core@0.2.0")["licenses"][0]["license"]["id"], "Zlib");
    let why = |name: &str| {
        bill.component(name)["properties"]
            .as_array()
            .unwrap()
            .iter()
            .find(|p| p["name"] == "debvisor:dependency")
            .unwrap()["value"]
            .clone()
    };
    assert_eq!((why("pkg:cargo/shlex@1.3.0"), why("pkg:cargo/tempfile@3.0.0")), (json!("build"), json!("dev")));
    assert_eq!(
        bill.component("pkg:cargo/serde@1.0.0")["externalReferences"][0]["url"],
        "https://static.crates.io/crates/serde/1.0.0/download"
    );
}

#[test]
fn cargo_takes_a_licence_from_a_copy_only_where_it_is_the_crate_that_is_locked() {
    let digest = "ab".repeat(32);
    let lock = cargo_lock(&[("app", "0.1.0", "", &["a", "b"])])
        + &["a", "b"]
            .map(|name| {
                format!("\n[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\n{REGISTRY}\nchecksum = \"{digest}\"\n")
            })
            .concat();
    let copied = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nlicense = \"ISC\"\n");
    let sources = Sources::new(&[
        ("Cargo.lock", &lock),
        ("Cargo.toml", "[package]\nname = \"app\"\nversion = \"0.1.0\"\n[dependencies]\na = \"1\"\nb = \"1\"\n"),
        ("vendor/a/Cargo.toml", &copied("a")),
        ("vendor/a/.cargo-checksum.json", &json!({"files": {}, "package": digest}).to_string()),
        ("vendor/b/Cargo.toml", &copied("b")),
        ("vendor/b/.cargo-checksum.json", &json!({"files": {}, "package": "cd".repeat(32)}).to_string()),
    ]);
    let bill = sources.bill(&[]);
    assert_eq!(bill.components().len(), 2);
    assert_eq!(bill.component("pkg:cargo/a@1.0.0")["licenses"][0]["license"]["id"], "ISC");
    assert!(bill.component("pkg:cargo/b@1.0.0")["licenses"].is_null());
}

const NPM_EXPECTED: &[&str] = &[
    "pkg:npm/%40scope/b@2.0.0 required",
    "pkg:npm/a@1.0.0 required",
    "pkg:npm/c@3.0.0 required",
    "pkg:npm/c@4.0.0 optional",
    "pkg:npm/d@5.0.0 excluded",
];

const NPM_EDGES: &[&str] = &[
    "pkg:npm/%40scope/b@2.0.0 -> pkg:npm/c@4.0.0",
    "pkg:npm/a@1.0.0 -> pkg:npm/%40scope/b@2.0.0",
    "pkg:npm/a@1.0.0 -> pkg:npm/c@3.0.0",
    "pkg:npm/root@0.1.0 -> pkg:npm/a@1.0.0",
    "pkg:npm/root@0.1.0 -> pkg:npm/d@5.0.0",
];

const PACKAGE_JSON: &str =
    r#"{"name":"root","version":"0.1.0","license":"MIT","dependencies":{"a":"^1"},"devDependencies":{"d":"5"}}"#;

#[test]
fn npm_resolves_as_node_does_in_every_version_of_its_lock_file() {
    let integrity = "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==";
    let v3 = json!({"name": "root", "lockfileVersion": 3, "packages": {
        "": {"name": "root", "version": "0.1.0", "dependencies": {"a": "^1"}, "devDependencies": {"d": "5"}},
        "node_modules/a": {"version": "1.0.0", "resolved": "https://registry.example/a.tgz", "integrity": integrity, "license": "ISC", "dependencies": {"@scope/b": "2", "c": "3"}},
        "node_modules/@scope/b": {"version": "2.0.0", "optionalDependencies": {"c": "4"}},
        "node_modules/@scope/b/node_modules/c": {"version": "4.0.0", "optional": true},
        "node_modules/c": {"version": "3.0.0"},
        "node_modules/d": {"version": "5.0.0", "dev": true},
    }});
    let v1 = json!({"name": "root", "version": "0.1.0", "lockfileVersion": 1, "dependencies": {
        "a": {"version": "1.0.0", "resolved": "https://registry.example/a.tgz", "integrity": integrity, "requires": {"@scope/b": "2", "c": "3"}},
        "@scope/b": {"version": "2.0.0", "requires": {"c": "4"}, "dependencies": {"c": {"version": "4.0.0", "optional": true}}},
        "c": {"version": "3.0.0"},
        "d": {"version": "5.0.0", "dev": true},
    }});
    for (name, lock) in [("package-lock.json", v3.clone()), ("npm-shrinkwrap.json", v3), ("package-lock.json", v1)] {
        let sources = Sources::new(&[(name, &lock.to_string()), ("package.json", PACKAGE_JSON)]);
        let bill = sources.bill(&[]);
        assert_eq!(bill.listed(), set(NPM_EXPECTED), "{name}");
        assert_eq!(bill.edges(), set(NPM_EDGES), "{name}");
        assert_eq!(bill.described()["purl"], "pkg:npm/root@0.1.0");
        let a = bill.component("pkg:npm/a@1.0.0");
        assert_eq!(a["hashes"][0]["alg"], "SHA-512");
        assert!(a["hashes"][0]["content"].as_str().unwrap().starts_with("cf83e1357eefb8bd"));
    }
}

#[test]
fn npm_workspaces_are_projects_and_links_lead_to_them() {
    let lock = json!({"lockfileVersion": 3, "packages": {
        "": {"name": "root", "version": "0.1.0", "workspaces": ["packages/*"]},
        "packages/w": {"name": "w", "version": "9.0.0", "dependencies": {"a": "1", "v": "1"}},
        "packages/v": {"name": "v", "version": "8.0.0"},
        "node_modules/w": {"resolved": "packages/w", "link": true},
        "node_modules/v": {"resolved": "packages/v", "link": true},
        "packages/w/node_modules/a": {"version": "1.0.0"},
        "node_modules/alias": {"name": "real", "version": "2.0.0"},
    }});
    let bill = Sources::new(&[("package-lock.json", &lock.to_string())]).bill(&[]);
    let expected =
        ["pkg:npm/a@1.0.0 required", "pkg:npm/real@2.0.0 required", "pkg:npm/v@8.0.0 -", "pkg:npm/w@9.0.0 -"];
    assert_eq!(bill.listed(), set(&expected));
    assert_eq!(bill.edges(), set(&["pkg:npm/w@9.0.0 -> pkg:npm/a@1.0.0", "pkg:npm/w@9.0.0 -> pkg:npm/v@8.0.0"]));
}

#[test]
fn yarn_of_both_generations_is_read() {
    let classic = "# yarn lockfile v1\n\n\n\"@scope/b@2\":\n  version \"2.0.0\"\n  resolved \"https://registry.example/b.tgz#da39a3ee5e6b4b0d3255bfef95601890afd80709\"\n  dependencies:\n    c \"4\"\n\n\
        a@^1:\n  version \"1.0.0\"\n  dependencies:\n    \"@scope/b\" \"2\"\n    c \"3\"\n\nc@3:\n  version \"3.0.0\"\n\nc@4:\n  version \"4.0.0\"\n\nd@5:\n  version \"5.0.0\"\n";
    let berry = "__metadata:\n  version: 8\n  cacheKey: 10c0\n\n\"@scope/b@npm:2\":\n  version: 2.0.0\n  resolution: \"@scope/b@npm:2.0.0\"\n  dependencies:\n    c: \"npm:4\"\n  checksum: 10c0/abcd\n  languageName: node\n  linkType: hard\n\n\
        \"a@npm:^1\":\n  version: 1.0.0\n  resolution: \"a@npm:1.0.0\"\n  dependencies:\n    \"@scope/b\": \"npm:2\"\n    c: \"npm:3\"\n\n\"c@npm:3\":\n  version: 3.0.0\n  resolution: \"c@npm:3.0.0\"\n\n\"c@npm:4\":\n  version: 4.0.0\n  resolution: \"c@npm:4.0.0\"\n\n\
        \"d@npm:5\":\n  version: 5.0.0\n  resolution: \"d@npm:5.0.0\"\n\n\"root@workspace:.\":\n  version: 0.0.0-use.local\n  resolution: \"root@workspace:.\"\n  dependencies:\n    a: \"npm:^1\"\n    d: \"npm:5\"\n  languageName: unknown\n  linkType: soft\n";
    for lock in [classic, berry] {
        let bill = Sources::new(&[("yarn.lock", lock), ("package.json", PACKAGE_JSON)]).bill(&[]);
        // Yarn's files do not say what is optional.
        let expected: Vec<String> = NPM_EXPECTED.iter().map(|line| line.replace("optional", "required")).collect();
        assert_eq!(bill.listed(), expected.into_iter().collect());
        assert_eq!(bill.edges(), set(NPM_EDGES));
    }
    let bill = Sources::new(&[("yarn.lock", classic), ("package.json", PACKAGE_JSON)]).bill(&[]);
    assert_eq!(bill.component("pkg:npm/%40scope/b@2.0.0")["hashes"][0]["alg"], "SHA-1");
}

#[test]
fn pnpm_of_three_generations_is_read() {
    let v5 = "lockfileVersion: 5.4\n\nspecifiers:\n  a: ^1\n\ndependencies:\n  a: 1.0.0\n\ndevDependencies:\n  d: 5.0.0\n\npackages:\n\n  /@scope/b/2.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n    optionalDependencies:\n      c: 4.0.0\n\n\
        \x20 /a/1.0.0_x@1.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n    dependencies:\n      '@scope/b': 2.0.0\n      c: 3.0.0\n\n  /c/3.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n\n  /c/4.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n\n  /d/5.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n    dev: true\n"
        .replace("  a: 1.0.0\n\ndev", "  a: 1.0.0_x@1.0.0\n\ndev");
    let v6 = "lockfileVersion: '6.0'\n\ndependencies:\n  a:\n    specifier: ^1\n    version: 1.0.0\n\ndevDependencies:\n  d:\n    specifier: '5'\n    version: 5.0.0\n\npackages:\n\n  /@scope/b@2.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n    optionalDependencies:\n      c: 4.0.0\n\n\
        \x20 /a@1.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n    dependencies:\n      '@scope/b': 2.0.0\n      c: 3.0.0\n\n  /c@3.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n\n  /c@4.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n\n  /d@5.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n";
    let v9 = "lockfileVersion: '9.0'\n\nimporters:\n\n  .:\n    dependencies:\n      a:\n        specifier: ^1\n        version: 1.0.0(c@3.0.0)\n    devDependencies:\n      d:\n        specifier: '5'\n        version: 5.0.0\n\npackages:\n\n  '@scope/b@2.0.0':\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n\n  a@1.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n\n  c@3.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n\n  c@4.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n\n  d@5.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n\n\
        snapshots:\n\n  '@scope/b@2.0.0':\n    optionalDependencies:\n      c: 4.0.0\n\n  a@1.0.0(c@3.0.0):\n    dependencies:\n      '@scope/b': 2.0.0\n      c: 3.0.0\n\n  c@3.0.0: {}\n\n  c@4.0.0:\n    optional: true\n\n  d@5.0.0: {}\n";
    for lock in [v5.as_str(), v6, v9] {
        let bill = Sources::new(&[("pnpm-lock.yaml", lock), ("package.json", PACKAGE_JSON)]).bill(&[]);
        assert_eq!(bill.listed(), set(NPM_EXPECTED), "{lock}");
        assert_eq!(bill.edges(), set(NPM_EDGES), "{lock}");
        assert_eq!(
            bill.component("pkg:npm/c@3.0.0")["hashes"][0]["content"],
            "da39a3ee5e6b4b0d3255bfef95601890afd80709"
        );
    }
}

const PYTHON_EXPECTED: &[&str] =
    &["pkg:pypi/a-b@1.0 required", "pkg:pypi/c@2.0 required", "pkg:pypi/d@3.0 excluded", "pkg:pypi/e@4.0 optional"];
const PYTHON_EDGES: &[&str] = &[
    "pkg:pypi/a-b@1.0 -> pkg:pypi/c@2.0",
    "pkg:pypi/app@0.1 -> pkg:pypi/a-b@1.0",
    "pkg:pypi/app@0.1 -> pkg:pypi/d@3.0",
    "pkg:pypi/app@0.1 -> pkg:pypi/e@4.0",
];

#[test]
fn pythons_lock_files_are_read() {
    let hash = format!("sha256:{}", "ab".repeat(32));
    let poetry = format!(
        "[[package]]\nname = \"A_b\"\nversion = \"1.0\"\noptional = false\nfiles = [{{file = \"a.whl\", hash = \"{hash}\"}}]\n[package.dependencies]\nc = \">=2\"\n\
         [[package]]\nname = \"c\"\nversion = \"2.0\"\nfiles = [{{file = \"c.whl\", hash = \"{hash}\"}}, {{file = \"c.tar.gz\", hash = \"{hash}\"}}]\n\
         [[package]]\nname = \"d\"\nversion = \"3.0\"\n[[package]]\nname = \"e\"\nversion = \"4.0\"\n[metadata]\nlock-version = \"2.0\"\n"
    );
    let uv = format!(
        "version = 1\n[[package]]\nname = \"app\"\nversion = \"0.1\"\nsource = {{ virtual = \".\" }}\ndependencies = [{{ name = \"a-b\" }}]\n[package.optional-dependencies]\nmore = [{{ name = \"e\" }}]\n[package.dev-dependencies]\ndev = [{{ name = \"d\" }}]\n\
         [[package]]\nname = \"a-b\"\nversion = \"1.0\"\nsource = {{ registry = \"https://pypi.example/simple\" }}\ndependencies = [{{ name = \"c\" }}]\nwheels = [{{ url = \"https://files.example/a.whl\", hash = \"{hash}\" }}]\n\
         [[package]]\nname = \"c\"\nversion = \"2.0\"\n[[package]]\nname = \"d\"\nversion = \"3.0\"\n[[package]]\nname = \"e\"\nversion = \"4.0\"\n"
    );
    let project = "[project]\nname = \"app\"\nversion = \"0.1\"\nlicense = \"MIT\"\ndependencies = [\"a.B>=1\"]\n[project.optional-dependencies]\nmore = [\"e[x] ; python_version > '3'\"]\n[dependency-groups]\ndev = [\"d\"]\n";
    let of_poetry = "[tool.poetry]\nname = \"app\"\nversion = \"0.1\"\n[tool.poetry.dependencies]\npython = \"^3\"\na-b = \"*\"\ne = {version = \"*\", optional = true}\n[tool.poetry.group.dev.dependencies]\nd = \"*\"\n";
    for (name, lock, project) in
        [("poetry.lock", &poetry, project), ("poetry.lock", &poetry, of_poetry), ("uv.lock", &uv, project)]
    {
        let bill = Sources::new(&[(name, lock.as_str()), ("pyproject.toml", project)]).bill(&[]);
        assert_eq!(bill.listed(), set(PYTHON_EXPECTED), "{name}");
        assert_eq!(bill.edges(), set(PYTHON_EDGES), "{name}");
        assert_eq!(bill.component("pkg:pypi/a-b@1.0")["hashes"][0]["content"], "ab".repeat(32));
        assert!(bill.component("pkg:pypi/c@2.0")["hashes"].is_null(), "of several files none is the package");
    }
    let pipenv = json!({"_meta": {"sources": []}, "default": {"a-b": {"version": "==1.0", "hashes": [hash]}}, "develop": {"d": {"version": "==3.0"}}});
    let bill = Sources::new(&[("Pipfile.lock", &pipenv.to_string())]).bill(&[]);
    assert_eq!(bill.listed(), set(&["pkg:pypi/a-b@1.0 required", "pkg:pypi/d@3.0 excluded"]));
    let bill = Sources::new(&[("requirements-dev.txt", "a_b==1.0\nc>=2\n")]).bill(&[]);
    assert_eq!(bill.listed(), set(&["pkg:pypi/a-b@1.0 -"]));
    assert_eq!(bill.edges(), set(&["source -> pkg:pypi/a-b@1.0"]));
}

#[test]
fn installed_distributions_are_found_with_what_they_require() {
    let metadata =
        |name: &str, more: &str| format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{more}\nbody: x\n");
    let bill = Sources::new(&[
        (
            "lib/site-packages/A-1.0.dist-info/METADATA",
            &metadata("A", "License-Expression: MIT\nRequires-Dist: b.c (>=1)\nRequires-Dist: d ; extra == 'x'\n"),
        ),
        ("lib/site-packages/b_c-1.0.dist-info/METADATA", &metadata("b_c", "License: BSD\n")),
        ("lib/site-packages/d-1.0.dist-info/METADATA", &metadata("d", "")),
    ])
    .bill(&[]);
    assert_eq!(bill.listed(), set(&["pkg:pypi/a@1.0 -", "pkg:pypi/b-c@1.0 -", "pkg:pypi/d@1.0 -"]));
    assert_eq!(bill.edges(), set(&["pkg:pypi/a@1.0 -> pkg:pypi/b-c@1.0"]));
    assert_eq!(bill.component("pkg:pypi/a@1.0")["licenses"][0]["license"]["id"], "MIT");
    assert_eq!(bill.component("pkg:pypi/b-c@1.0")["licenses"][0]["license"]["name"], "BSD");
}

#[test]
fn go_modules_are_read_with_their_replacements_and_sums() {
    let bill = Sources::new(&[
        ("go.mod", "module example.com/tool\n\ngo 1.22\n\nrequire (\n\tgithub.com/BurntSushi/toml v1.4.0\n\tgolang.org/x/sys v0.24.0 // indirect\n\texample.com/local v1.0.0\n)\n\nreplace golang.org/x/sys => golang.org/x/sys v0.25.0\nreplace example.com/local => ../local\n"),
        ("go.sum", "golang.org/x/sys v0.25.0 h1:aa=\ngolang.org/x/sys v0.25.0/go.mod h1:bb=\n"),
    ])
    .bill(&[]);
    assert_eq!(bill.described()["purl"], "pkg:golang/example.com/tool");
    assert_eq!(
        bill.listed(),
        set(&[
            "pkg:golang/example.com/local -",
            "pkg:golang/github.com/burntsushi/toml@v1.4.0 -",
            "pkg:golang/golang.org/x/sys@v0.25.0 -"
        ])
    );
    assert_eq!(
        bill.edges(),
        set(&[
            "pkg:golang/example.com/tool -> pkg:golang/example.com/local",
            "pkg:golang/example.com/tool -> pkg:golang/github.com/burntsushi/toml@v1.4.0"
        ])
    );
    let sys = bill.component("pkg:golang/golang.org/x/sys@v0.25.0");
    assert!(sys["properties"].as_array().unwrap().contains(&json!({"name": "debvisor:go:h1", "value": "h1:aa="})));
}

#[test]
fn maven_fills_in_properties_and_what_parents_in_the_source_manage() {
    let parent = "<project><groupId>org.example</groupId><artifactId>parent</artifactId><version>1.0</version><packaging>pom</packaging>\
        <properties><slf4j>2.0.16</slf4j></properties><licenses><license><name>Apache-2.0</name></license></licenses>\
        <dependencyManagement><dependencies><dependency><groupId>junit</groupId><artifactId>junit</artifactId><version>4.13</version><scope>test</scope></dependency></dependencies></dependencyManagement></project>";
    let app = "<?xml version=\"1.0\"?><project xmlns=\"http://maven.apache.org/POM/4.0.0\"><parent><groupId>org.example</groupId><artifactId>parent</artifactId><version>1.0</version></parent><artifactId>app</artifactId>\
        <dependencies><dependency><groupId>org.slf4j</groupId><artifactId>slf4j-api</artifactId><version>${slf4j}</version></dependency>\
        <dependency><groupId>junit</groupId><artifactId>junit</artifactId></dependency>\
        <dependency><groupId>x</groupId><artifactId>elsewhere</artifactId></dependency>\
        <dependency><groupId>x</groupId><artifactId>maybe</artifactId><version>1</version><optional>true</optional><classifier>linux</classifier></dependency>\
        <dependency><groupId>${project.groupId}</groupId><artifactId>parent</artifactId><version>${project.version}</version><type>pom</type></dependency></dependencies></project>";
    let bill = Sources::new(&[("pom.xml", parent), ("app/pom.xml", app)]).bill(&[]);
    assert_eq!(bill.described()["purl"], "pkg:maven/org.example/parent@1.0");
    assert_eq!(bill.described()["licenses"][0]["license"]["id"], "Apache-2.0");
    assert_eq!(
        bill.listed(),
        set(&[
            "pkg:maven/junit/junit@4.13 excluded",
            "pkg:maven/org.example/app@1.0 -",
            "pkg:maven/org.example/parent@1.0?type=pom -",
            "pkg:maven/org.slf4j/slf4j-api@2.0.16 required",
            "pkg:maven/x/elsewhere required",
            "pkg:maven/x/maybe@1?classifier=linux optional",
        ])
    );
    assert!(bill.edges().contains("pkg:maven/org.example/app@1.0 -> pkg:maven/org.slf4j/slf4j-api@2.0.16"));
}

#[test]
fn what_is_found_in_two_places_is_one_component_with_the_weightier_scope() {
    let lock = |dev: bool| {
        json!({"lockfileVersion": 3, "packages": {"": {"name": "r"}, "node_modules/a": {"version": "1.0.0", "dev": dev}}}).to_string()
    };
    let bill = Sources::new(&[("x/package-lock.json", &lock(true)), ("y/package-lock.json", &lock(false))]).bill(&[]);
    assert!(bill.listed().contains("pkg:npm/a@1.0.0 required"));
    let places = bill.component("pkg:npm/a@1.0.0")["properties"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|p| p["name"] == "debvisor:location")
        .count();
    assert_eq!(places, 2);
}
