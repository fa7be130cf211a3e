// @sigstore/verify over a folder of bundles: `node verify.mjs FOLDER IDENTITY ISSUER`, with NODE_PATH set.
//
// The folder holds `app`, `root.json` and bundles named signed-*.json and attested-*.json. Each must be accepted as it
// is, and refused for another identity, for another artifact, and with another signature. Ends with 1 otherwise.

import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

// Modules are found through NODE_PATH, which only `require` looks at.
const require = createRequire(import.meta.url);
const { bundleFromJSON } = require("@sigstore/bundle");
const { TrustedRoot } = require("@sigstore/protobuf-specs");
const { Verifier, toSignedEntity, toTrustMaterial } = require("@sigstore/verify");

const [folder, identity, issuer] = process.argv.slice(2);
const read = (name) => readFileSync(join(folder, name));
const root = TrustedRoot.fromJSON(JSON.parse(read("root.json")));
const artifact = read("app");

function check(json, who, about) {
  const entity = toSignedEntity(bundleFromJSON(json), about);
  const policy = { subjectAlternativeName: who, extensions: { issuer } };
  new Verifier(toTrustMaterial(root)).verify(entity, policy);
  if (json.dsseEnvelope) {
    const statement = JSON.parse(Buffer.from(json.dsseEnvelope.payload, "base64"));
    const digest = createHash("sha256").update(about).digest("hex");
    if (!statement.subject.some((subject) => subject.digest.sha256 === digest)) {
      throw new Error("the statement is about something else");
    }
  }
}

function changed(json) {
  const copy = structuredClone(json);
  const [holder, member] = copy.dsseEnvelope
    ? [copy.dsseEnvelope.signatures[0], "sig"]
    : [copy.messageSignature, "signature"];
  const raw = Buffer.from(holder[member], "base64");
  raw[raw.length - 1] ^= 1;
  holder[member] = raw.toString("base64");
  return copy;
}

console.log(`@sigstore/verify ${require("@sigstore/verify/package.json").version}`);
let failed = false;
for (const name of readdirSync(folder).filter((name) => /^(signed|attested)-.*\.json$/.test(name)).sort()) {
  const json = JSON.parse(read(name));
  try {
    check(json, identity, artifact);
    console.log(`accepts ${name}`);
  } catch (error) {
    failed = true;
    console.log(`refuses ${name}: ${error.code ?? ""} ${error.message} ${error.cause?.message ?? ""}`);
  }
  const flaws = {
    "another identity": [json, "somebody@example.net", artifact],
    "another artifact": [json, identity, Buffer.from("something else")],
    "another signature": [changed(json), identity, artifact],
  };
  for (const [flaw, parts] of Object.entries(flaws)) {
    let taken = true;
    try {
      check(...parts);
    } catch {
      taken = false;
    }
    if (taken) {
      failed = true;
      console.log(`takes ${name} with ${flaw}`);
    }
  }
}
process.exit(failed ? 1 : 0);
