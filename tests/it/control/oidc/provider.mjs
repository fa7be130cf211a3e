// A real OpenID provider on loopback, with the interaction pages that it comes with: anybody may log in as anybody.
// usage: node provider.mjs MODULES KEYS PORT
// Says its issuer on stdout, then every request that it is sent. Its private keys go to KEYS as PEM, so that the test
// can make tokens that only the provider could, with one flaw each; keys that are there already are used again.
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';

const [modules, keys, port] = process.argv.slice(2);
const { default: Provider } = await import(`${modules}/oidc-provider/lib/index.js`);

function key(name, make, alg) {
  const file = `${keys}/${name}.pem`;
  if (!existsSync(file)) {
    writeFileSync(file, make().privateKey.export({ type: 'pkcs8', format: 'pem' }));
    writeFileSync(`${keys}/${name}.pub`, createPublicKey(readFileSync(file)).export({ type: 'spki', format: 'pem' }));
  }
  return { ...createPrivateKey(readFileSync(file)).export({ format: 'jwk' }), kid: name, use: 'sig', alg };
}

const jwks = {
  keys: [
    key('rs256', () => generateKeyPairSync('rsa', { modulusLength: 2048 }), 'RS256'),
    key('es256', () => generateKeyPairSync('ec', { namedCurve: 'P-256' }), 'ES256'),
  ],
};

// Who is in which group; a file of that name beside the keys says it anew while this runs.
const groups = { root: ['staff', 'admins'], alice: ['staff'], mallory: [], oscar: ['staff', 'ops'], rita: ['retired'] };
const now = () => (existsSync(`${keys}/groups.json`) ? JSON.parse(readFileSync(`${keys}/groups.json`)) : groups);
const client = (client_id, name, more) => ({
  client_id,
  redirect_uris: [`https://debvisor.test/v1/oidc/${name}/callback`],
  grant_types: ['authorization_code'],
  response_types: ['code'],
  ...more,
});

const server = createServer();
server.listen(Number(port), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks,
    clients: [
      client('debvisor', 'test', { client_secret: 'the-secret-of-the-client' }),
      client('public', 'es', { token_endpoint_auth_method: 'none', id_token_signed_response_alg: 'ES256' }),
      client('closed', 'closed', { client_secret: 'another-secret-of-a-client' }),
    ],
    pkce: { required: () => true },
    claims: { email: ['email', 'email_verified'], profile: ['preferred_username'], groups: ['groups'] },
    scopes: ['openid', 'profile', 'email', 'groups'],
    async findAccount(_, id) {
      return {
        accountId: id,
        async claims() {
          return {
            sub: id,
            preferred_username: id,
            email: `${id}@${id === 'mallory' ? 'elsewhere.test' : 'example.test'}`,
            email_verified: id !== 'unverified',
            groups: now()[id] ?? [],
          };
        },
      };
    },
    features: { devInteractions: { enabled: true } },
  });
  const answer = provider.callback();
  server.on('request', (request, response) => {
    console.log(`${request.method} ${request.url.split('?')[0]}`);
    answer(request, response);
  });
  console.log(issuer);
});
