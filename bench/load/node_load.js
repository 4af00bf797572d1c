// Buffers, strings and JSON: most of it outside V8's own heap, in malloc. Deterministic.
'use strict';
const zlib = require('zlib');

const scale = Number(process.argv[2]);
let seed = 1;
function random(bound) {
  seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
  return seed % bound;
}

function buffers() {
  const live = new Array(2000).fill(null);
  let bytes = 0;
  for (let i = 0; i < 40000 * scale; i++) {
    const size = i % 50 === 0 ? 100000 + random(300000) : 4100 + random(20000);
    const buffer = i % 2 === 0 ? Buffer.allocUnsafeSlow(size) : Buffer.alloc(size);
    buffer[0] = i & 0xff;
    bytes += size;
    live[random(live.length)] = buffer;
  }
  return bytes;
}

function documents() {
  const rows = [];
  for (let i = 0; i < 15000 * scale; i++)
    rows.push({id: i, name: 'name-' + i, list: [i, i * 2, 'x'.repeat(i % 40)], map: {a: {b: i}}});
  let length = 0;
  for (let i = 0; i < 3; i++) {
    const text = JSON.stringify(rows);
    length += Buffer.from(text, 'utf8').length + JSON.parse(text).length;
  }
  return length;
}

function compressed() {
  let length = 0;
  for (let i = 0; i < 60 * scale; i++) {
    const input = Buffer.from(('line ' + i + ' of text, ').repeat(2000));
    length += zlib.inflateSync(zlib.deflateSync(input)).length;
  }
  return length;
}

console.log(buffers() + documents() + compressed());
