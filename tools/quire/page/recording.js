"use strict";
/* A recording's bytes: entries, and the columns of one after the other. The format is that of
 * docs/recording-format.md; all columns begin at multiples of four bytes. */

const HEADER_BYTES = 320, ENTRY_BYTES = 88, ENTRY_MAGIC = 0x706e7371, NO_RUN = 0xffffffff;
const HUGEPAGE = 512, HUGEPAGE_BYTES = 20, RUN_WORDS = 10;

function bytesOfBase64(text) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/* Where each column is, for n frames and m runs; in 32-bit words from the beginning. */
function placesOf(n, m) {
  const p = {type: 0, cls: n / 4, occupancy: n / 2, fill: 3 * n / 4, flags: n, guests: 1.5 * n};
  p.memory = 2 * n;
  p.run = 3 * n;
  p.hugepages = 4 * n;
  p.runs = p.hugepages + n / HUGEPAGE * HUGEPAGE_BYTES / 4;
  p.numbers = p.runs + m * RUN_WORDS;
  return p;
}

function mix(into, at, from, fromAt, n) {
  for (let i = 0; i < n; i++) into[at + i] ^= from[fromAt + i];
}

class Columns {
  constructor(entry, buffer) {
    this.n = entry.nframes;
    this.m = entry.nruns;
    this.places = placesOf(this.n, this.m);
    if (buffer.byteLength !== entry.raw) throw new Error("a snapshot is damaged");
    this.words = new Uint32Array(buffer, 0, buffer.byteLength >> 2);
  }

  /* From what differs from `before` to what it is. */
  undelta(before) {
    const p = this.places, q = before.places, n = Math.min(this.n, before.n);
    const names = [["type", 4], ["cls", 4], ["occupancy", 4], ["fill", 4], ["flags", 2],
      ["guests", 2], ["memory", 1], ["run", 1]];
    for (const [name, each] of names) mix(this.words, p[name], before.words, q[name], n / each);
    mix(this.words, p.hugepages, before.words, q.hugepages, n / HUGEPAGE * HUGEPAGE_BYTES / 4);
    mix(this.words, p.numbers, before.words, q.numbers, this.words.length - p.numbers);
    const at = before.runsAt();
    for (let i = 0, first = 0; i < this.m; i++) {
      const run = p.runs + i * RUN_WORDS;
      first = first + this.words[run] >>> 0;
      if (first >= before.n || at[first] === NO_RUN) continue;
      mix(this.words, run + 1, before.words, q.runs + at[first] * RUN_WORDS + 1, RUN_WORDS - 1);
    }
  }

  /* By frame: the run that begins there. */
  runsAt() {
    if (this.at) return this.at;
    this.at = new Uint32Array(this.n).fill(NO_RUN);
    for (let i = 0, first = 0; i < this.m; i++) {
      first = first + this.words[this.places.runs + i * RUN_WORDS] >>> 0;
      if (first < this.n) this.at[first] = i;
    }
    return this.at;
  }
}

class Recording {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.entries = [];
    this.now = null;
    this.at = -1;
    this.queue = Promise.resolve();
    this.readHeader();
    this.findEntries();
  }

  text(at, size) {
    const bytes = this.bytes.subarray(at, at + size), end = bytes.indexOf(0);
    return new TextDecoder().decode(bytes.subarray(0, end < 0 ? size : end));
  }

  readHeader() {
    if (this.text(0, 8) !== "quirerec") throw new Error("this is no recording");
    this.pid = Number(this.view.getBigUint64(32, true));
    this.comm = this.text(48, 32);
    this.cmdline = this.text(80, 224);
  }

  findEntries() {
    const v = this.view;
    const u64 = at => Number(v.getBigUint64(at, true));
    for (let at = HEADER_BYTES; at + ENTRY_BYTES <= v.byteLength;) {
      if (v.getUint32(at, true) !== ENTRY_MAGIC) break;
      const length = v.getUint32(at + 8, true);
      this.entries.push({at: at + ENTRY_BYTES, length, delta: v.getUint32(at + 4, true) === 1,
        raw: u64(at + 16), nframes: v.getUint32(at + 24, true), nruns: v.getUint32(at + 28, true),
        time: u64(at + 32) / 1e9, base: v.getBigUint64(at + 40, true), unsure: u64(at + 56),
        held: u64(at + 64), live: u64(at + 72)});
      at += ENTRY_BYTES + Math.ceil(length / 8) * 8;
    }
    if (this.entries.length === 0) throw new Error("there is no snapshot in this recording");
    for (const e of this.entries) e.seconds = Math.max(0, e.time - this.entries[0].time);
  }

  async step(index) {
    const e = this.entries[index];
    const columns = new Columns(e, await inflate(this.bytes.subarray(e.at, e.at + e.length)));
    if (e.delta) columns.undelta(this.now);
    this.now = columns;
    this.at = index;
  }

  async seek(index) {
    let from = index;
    while (from > 0 && from !== this.at && this.entries[from].delta) from--;
    if (from !== this.at) await this.step(from);
    while (from < index) await this.step(++from);
    return new Heap(this.entries[index], this.now, index);
  }

  /* One at a time: a delta needs the one before it. */
  read(index) {
    const result = this.queue.then(() => this.seek(index));
    this.queue = result.catch(() => {});
    return result;
  }
}
