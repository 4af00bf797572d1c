// Worker threads that exchange buffers, JSON, compression, streams and many small objects. Prints what
// must be the same under any allocator.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const zlib = require('zlib');

const md5 = (data) => crypto.createHash('md5').update(data).digest('hex');

function* numbers(seed) {
  for (;;) {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    yield seed >>> 8;
  }
}

function build(count, seed) {
  const next = numbers(seed);
  const list = [];
  for (let i = 0; i < count; i++) {
    list.push({
      id: i,
      name: `entry ${next.next().value}`,
      tags: Array.from({ length: next.next().value % 6 }, (_, k) => 'tag'.repeat(k)),
    });
  }
  return list;
}

if (!isMainThread) {
  const { id, count } = workerData;
  const text = JSON.stringify(build(count, id + 1));
  const packed = zlib.deflateSync(text, { level: 6 });
  const same = zlib.inflateSync(packed).toString() === text;
  const next = numbers(id + 7);
  const kept = new Map();
  for (let i = 0; i < count; i++) {
    const n = next.next().value;
    const buffer = Buffer.alloc(1 + (n % 20000), i & 255);
    kept.set(n % 200, buffer);
    if (n % 3 === 0) kept.delete((n >>> 4) % 200);
  }
  const hash = md5(Buffer.concat([...kept.entries()].sort((a, b) => a[0] - b[0]).map((e) => e[1])));
  parentPort.on('message', (array) => {
    // The memory of this array was allocated in the main thread and moves back and forth.
    for (let i = 0; i < array.length; i++) array[i] = (array[i] * 3 + id) & 255;
    parentPort.postMessage({ array }, [array.buffer]);
  });
  parentPort.postMessage({ first: { id, length: text.length, text: md5(text), same, hash } });
} else {
  const count = Number(process.argv[2]);
  const rounds = 40;
  const lines = [];
  const run = (id) =>
    new Promise((resolve, reject) => {
      const worker = new Worker(__filename, { workerData: { id, count } });
      let round = 0;
      worker.on('error', reject);
      worker.on('message', (message) => {
        if (message.first) lines.push(JSON.stringify(message.first));
        const array = message.array || new Uint8Array(100000 + id * 4096).fill(id);
        if (round++ < rounds) {
          worker.postMessage(array, [array.buffer]);
        } else {
          lines.push(`${id} ${md5(array)}`);
          worker.terminate().then(resolve);
        }
      });
    });
  (async () => {
    for (let wave = 0; wave < 3; wave++) await Promise.all([1, 2, 3, 4].map((i) => run(wave * 4 + i)));
    const brotli = zlib.brotliCompressSync(JSON.stringify(build(count, 99)), {
      params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 },
    });
    lines.push(md5(zlib.brotliDecompressSync(brotli)));
    lines.push(md5(crypto.pbkdf2Sync('quire', 'salt', 2000, 64, 'sha512')));
    await new Promise((resolve) => {
      const gzip = zlib.createGzip();
      const hash = crypto.createHash('md5');
      gzip.pipe(zlib.createGunzip()).on('data', (d) => hash.update(d)).on('end', () => {
        lines.push(hash.digest('hex'));
        resolve();
      });
      for (let i = 0; i < 200; i++) gzip.write(Buffer.alloc(30000, i));
      gzip.end();
    });
    console.log(lines.sort().join('\n'));
  })();
}
