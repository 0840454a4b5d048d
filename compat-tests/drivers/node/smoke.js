// node-postgres against a server: `node smoke.js postgresql://…`. Its results are text always
// (what its option `binary` reads is wrong with PostgreSQL too); buffers are sent in binary.
'use strict';

const assert = require('node:assert');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const copy = require('pg-copy-streams');

const url = new URL(process.argv[2]);
const secure = url.searchParams.get('sslmode') === 'require';
url.search = '';
// What libpq's sslmode=require means: encrypted, the certificate unverified.
const config = {
  connectionString: url.toString(),
  ssl: secure ? { rejectUnauthorized: false } : false,
  connectionTimeoutMillis: 20000,
};

async function withClient(body, more = {}) {
  const client = new Client({ ...config, ...more });
  client.on('error', () => {});
  await client.connect();
  try {
    return await body(client);
  } finally {
    await client.end();
  }
}

async function failing(promise, code) {
  try {
    await promise;
  } catch (error) {
    if (error.code !== code) throw error;
    return error;
  }
  throw new Error(`no error ${code}`);
}

const checks = {
  connecting: () => withClient(async (c) => {
    const { rows, fields } = await c.query('SELECT 1 AS one, version() AS v');
    assert.strictEqual(rows[0].one, 1);
    assert.deepStrictEqual(fields.map((f) => f.dataTypeID), [23, 25]);
    assert.ok(rows[0].v.startsWith('PostgreSQL 15'), rows[0].v);
    if (secure) assert.ok(c.connection.stream.encrypted, "the connection isn't encrypted");
  }),

  'wrong password': async () => {
    if (!secure) return;
    const wrong = new URL(url);
    wrong.password = 'wrong';
    await failing(withClient(async () => {}, { connectionString: wrong.toString() }), '28P01');
  },

  pool: async () => {
    const pool = new Pool({ ...config, max: 4 });
    const answers = await Promise.all([...Array(20).keys()].map((k) => pool.query('SELECT $1::int4 AS k', [k])));
    assert.deepStrictEqual(answers.map((a) => a.rows[0].k), [...Array(20).keys()]);
    await pool.end();
  },

  transactions: () => withClient(async (c) => {
    await c.query('DROP TABLE IF EXISTS node_x; CREATE TABLE node_x (a int PRIMARY KEY)');
    await c.query('BEGIN');
    await c.query('INSERT INTO node_x VALUES ($1)', [1]);
    await c.query('SAVEPOINT s');
    await c.query('INSERT INTO node_x VALUES ($1)', [2]);
    await failing(c.query('INSERT INTO node_x VALUES ($1)', [1]), '23505');
    await failing(c.query('SELECT 1'), '25P02');
    await c.query('ROLLBACK TO SAVEPOINT s');
    await c.query('INSERT INTO node_x VALUES ($1)', [3]);
    assert.strictEqual((await c.query('COMMIT')).command, 'COMMIT');
    await c.query('BEGIN');
    assert.strictEqual((await c.query('DELETE FROM node_x')).rowCount, 2);
    await c.query('ROLLBACK');
    const { rows } = await c.query({ text: 'SELECT a FROM node_x ORDER BY a', rowMode: 'array' });
    assert.deepStrictEqual(rows, [[1], [3]]);
  }),

  'prepared statements': () => withClient(async (c) => {
    for (let k = 0; k < 5; k++) {
      const { rows } = await c.query({ name: 'plus', text: 'SELECT $1::int4 + 1 AS n', values: [k] });
      assert.strictEqual(rows[0].n, k + 1);
    }
    // Queries are queued by the client and sent one after the other.
    const all = await Promise.all([...Array(50).keys()].map((k) => c.query('SELECT $1::text AS t', [k])));
    assert.deepStrictEqual(all.map((a) => a.rows[0].t), [...Array(50).keys()].map(String));
  }),

  'several statements': () => withClient(async (c) => {
    const answers = await c.query("SELECT 1 AS a; SELECT 'x' AS b; SET application_name = 'node'");
    assert.deepStrictEqual(answers.map((a) => a.command), ['SELECT', 'SELECT', 'SET']);
    assert.strictEqual(answers[1].rows[0].b, 'x');
  }),

  cursor: () => withClient(async (c) => {
    const cursor = c.query(new Cursor('SELECT i FROM generate_series(1, $1::int4) i ORDER BY i', [10]));
    assert.deepStrictEqual((await cursor.read(4)).map((r) => r.i), [1, 2, 3, 4]);
    assert.deepStrictEqual((await cursor.read(4)).map((r) => r.i), [5, 6, 7, 8]);
    await cursor.close();
    assert.strictEqual((await c.query('SELECT 1 AS a')).rows[0].a, 1);
  }),

  copy: () => withClient(async (c) => {
    await c.query('DROP TABLE IF EXISTS node_c; CREATE TABLE node_c (a int PRIMARY KEY, b text)');
    const lines = [...Array(1000).keys()].map((k) => `${k}\t${k % 3 ? `text \\\\ ${k}` : '\\N'}\n`);
    const into = c.query(copy.from('COPY node_c FROM STDIN'));
    await pipeline(Readable.from(lines), into);
    assert.strictEqual(into.rowCount, 1000);
    const parts = [];
    for await (const part of c.query(copy.to('COPY (SELECT * FROM node_c ORDER BY a) TO STDOUT'))) parts.push(part);
    assert.strictEqual(Buffer.concat(parts).toString(), lines.join(''));
    const again = c.query(copy.from('COPY node_c FROM STDIN'));
    await failing(pipeline(Readable.from(['1\tx\n']), again), '23505');
    assert.strictEqual((await c.query('SELECT count(*) AS n FROM node_c')).rows[0].n, '1000');
  }),

  errors: () => withClient(async (c) => {
    await c.query('DROP TABLE IF EXISTS node_e');
    await c.query('CREATE TABLE node_e (a int PRIMARY KEY, b int NOT NULL, CONSTRAINT small CHECK (b < 10))');
    await c.query('INSERT INTO node_e VALUES (1, 1)');
    const duplicate = await failing(c.query('INSERT INTO node_e VALUES ($1, 2)', [1]), '23505');
    assert.strictEqual(duplicate.constraint, 'node_e_pkey');
    assert.strictEqual(duplicate.detail, 'Key (a)=(1) already exists.');
    assert.deepStrictEqual([duplicate.schema, duplicate.table, duplicate.severity], ['public', 'node_e', 'ERROR']);
    const large = await failing(c.query('INSERT INTO node_e VALUES (2, 20)'), '23514');
    assert.deepStrictEqual([large.constraint, large.detail], ['small', 'Failing row contains (2, 20).']);
    const nothing = await failing(c.query('INSERT INTO node_e VALUES (3, NULL)'), '23502');
    assert.strictEqual(nothing.column, 'b');
    const unknown = await failing(c.query('SELECT a, nonsense FROM node_e'), '42703');
    assert.strictEqual(unknown.position, '11');
    await failing(c.query('SELECT 1 / $1::int4', [0]), '22012');
    await failing(c.query('SELECT $1::int4', ['x']), '22P02');
    const notices = [];
    c.on('notice', (n) => notices.push(n.severity));
    await c.query('DROP TABLE IF EXISTS node_none');
    assert.deepStrictEqual(notices, ['NOTICE']);
  }),

  cancellation: () => withClient(async (c) => {
    const long = 'SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 100000) b';
    const running = failing(c.query(long), '57014');
    await new Promise((done) => setTimeout(done, 300));
    await withClient(async (other) => {
      const { rows } = await other.query('SELECT pg_cancel_backend($1) AS done', [c.processID]);
      assert.strictEqual(rows[0].done, true);
    });
    assert.strictEqual((await running).message, 'canceling statement due to user request');
    assert.strictEqual((await c.query('SELECT 1 AS a')).rows[0].a, 1);
  }),

  'statement timeout': () => withClient(async (c) => {
    await failing(c.query('SELECT pg_sleep(10)'), '57014');
  }, { statement_timeout: 200 }),
};

// Type, what is sent, what comes back where it differs.
const types = [
  ['int2', -32768],
  ['int4', 2147483647],
  ['int8', '-9223372036854775808'],
  ['float4', 1.5],
  ['float8', -2.2250738585072014e-308],
  ['float8', Infinity],
  ['numeric', '-12345678901234567890.000100'],
  ['text', 'ä\n\t"\'\\ 😀'],
  ['varchar', ''],
  ['bytea', Buffer.from([...Array(256).keys()])],
  ['bool', true],
  ['bool', false],
  ['date', new Date(2024, 1, 29)],
  ['timestamp', new Date(1999, 11, 31, 23, 59, 59, 999)],
  ['timestamptz', new Date(Date.UTC(2024, 6, 1, 12, 30, 15, 250))],
  ['interval', '3 days 04:00:00.005', { days: 3, hours: 4, milliseconds: 5 }],
  ['uuid', '12345678-1234-5678-1234-567812345678'],
  ['jsonb', { a: [1, 2.5, null, true, 'ä'], b: { c: {} } }],
  ['int4[]', [1, 2, 3]],
  ['text[]', ['a', '', 'q"u,o{te}', null, 'NULL']],
  ['bool[]', [true, false]],
];

for (const [type, sent, back] of types) {
  checks[`${type} ${String(sent).slice(0, 30)}`] = () => withClient(async (c) => {
    const { rows } = await c.query(`SELECT $1::${type} AS v`, [sent]);
    const got = type === 'interval' ? { ...rows[0].v } : rows[0].v;
    assert.deepStrictEqual(got, back ?? sent);
  });
}

async function main() {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    let timer;
    const limit = new Promise((_, no) => { timer = setTimeout(() => no(new Error('no answer in 60 s')), 60000); });
    try {
      await Promise.race([check(), limit]);
    } catch (error) {
      failed += 1;
      const line = /smoke\.js:(\d+)/.exec(error.stack ?? '');
      const what = String(error.message).replace(/\s+/g, ' ');
      console.log(`FAILED node-postgres ${name}: ${error.code ?? ''} ${what} (line ${line?.[1]})`);
    } finally {
      clearTimeout(timer);
    }
  }
  console.log(failed ? `node-postgres: ${failed} checks failed` : 'ok node-postgres');
  process.exit(failed ? 1 : 0);
}

main();
