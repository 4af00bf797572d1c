/* A heap at one moment: what each frame is, by typed arrays. */

const TYPE = {none: 0, free: 1, slab: 2, folio: 3, meta: 4, owned: 5, poison: 6, reserved: 7};
const FLAG = {isolated: 1, pinned: 2, host: 4, guest: 8, home: 16, frozen: 32, used: 64,
  resident: 128, zero: 256, hole: 512, discarded: 1024, guard: 2048, huge: 4096, unsure: 8192};
const KIND = {};
QUIRE.kinds.forEach((name, i) => { KIND[name] = i; });
const LEVELS = QUIRE.light.colours[0].length;
const MARK = {pinned: 1, frozen: 2, isolated: 4};
const FRAME = 4096;

function levelOf(fill) {
  if (fill === 0) return 0;
  return fill === 255 ? LEVELS - 1 : 1 + Math.floor(fill * (LEVELS - 2) / 255);
}

function kindOf(type, flags, guests) {
  if (flags & FLAG.unsure) return KIND.unsure;
  switch (type) {
  case TYPE.none:
  case TYPE.free:
    if (flags & FLAG.resident) return KIND.free;
    return type === TYPE.none ? KIND.unused : KIND.discarded;
  case TYPE.slab:
    if (flags & FLAG.guest) return KIND.guest;
    if (flags & FLAG.hole) return KIND.hollow;
    return guests > 0 ? KIND.host : KIND.slab;
  case TYPE.folio: return flags & FLAG.guard ? KIND.guard : KIND.folio;
  case TYPE.meta: return KIND.meta;
  case TYPE.owned: return KIND.owned;
  case TYPE.poison: return KIND.poison;
  default: return KIND.reserved;
  }
}

class Heap {
  constructor(entry, columns, index) {
    const p = columns.places, n = columns.n, words = columns.words;
    const column = (Type, name, each) =>
      new Type(words.buffer, words.byteOffset + p[name] * 4, n / each | 0);
    this.entry = entry;
    this.index = index;
    this.n = n;
    this.type = new Uint8Array(words.buffer, 0, n);
    this.cls = new Uint8Array(words.buffer, p.cls * 4, n);
    this.occupancy = new Uint8Array(words.buffer, p.occupancy * 4, n);
    this.fill = new Uint8Array(words.buffer, p.fill * 4, n);
    this.flags = new Uint16Array(words.buffer, p.flags * 4, n);
    this.guests = new Uint16Array(words.buffer, p.guests * 4, n);
    this.memoryLess = column(Uint32Array, "memory", 1);
    this.runLess = column(Uint32Array, "run", 1);
    this.runWords = words.subarray(p.runs, p.numbers);
    this.m = columns.m;
    this.look();
  }

  /* A byte per cell: kind and level; one for the marks; and how many there are. */
  look() {
    this.cells = new Uint8Array(this.n);
    this.marks = new Uint8Array(this.n);
    this.kinds = new Array(QUIRE.kinds.length).fill(0);
    this.marked = new Array(QUIRE.marks.length).fill(0);
    this.last = 0;
    for (let i = 0; i < this.n; i++) {
      const flags = this.flags[i], kind = kindOf(this.type[i], flags, this.guests[i]);
      const shaded = kind === KIND.slab || kind === KIND.host;
      this.cells[i] = kind * LEVELS + (shaded ? levelOf(this.fill[i]) : LEVELS - 1);
      this.kinds[kind]++;
      if (kind > KIND.discarded) this.last = i;
      if (!(flags & (FLAG.pinned | FLAG.frozen | FLAG.isolated))) continue;
      this.marks[i] = (flags & FLAG.pinned ? MARK.pinned : 0) |
        (flags & FLAG.frozen ? MARK.frozen : 0) | (flags & FLAG.isolated ? MARK.isolated : 0);
      for (let m = 0; m < this.marked.length; m++) this.marked[m] += this.marks[i] >> m & 1;
    }
    this.hugepages = Math.floor(this.last / HUGEPAGE) + 1;
  }

  kind(i) { return Math.floor(this.cells[i] / LEVELS); }
  memory(i) { return this.memoryLess[i] + i >>> 0; }
  address(i) { return "0x" + (this.entry.base + BigInt(i) * 4096n).toString(16); }

  /* The index of each frame's run; made when it is first asked for. */
  runs() {
    if (this.run) return this.run;
    this.run = new Uint32Array(this.n);
    this.firsts = new Uint32Array(this.m);
    for (let i = 0, before = 0; i < this.n; i++) {
      const coded = this.runLess[i];
      if (coded === 0) { this.run[i] = NO_RUN; continue; }
      const zigzag = coded - 1 >>> 0;
      before = before + (zigzag >>> 1 ^ -(zigzag & 1)) >>> 0;
      this.run[i] = before;
    }
    for (let i = 0, first = 0; i < this.m; i++)
      this.firsts[i] = first = first + this.runWords[i * RUN_WORDS] >>> 0;
    return this.run;
  }

  runOf(i) {
    const index = this.runs()[i];
    if (index >= this.m) return null;
    const w = this.runWords, at = index * RUN_WORDS;
    return {first: this.firsts[index], nframes: w[at + 1], nguard: w[at + 2], cls: w[at + 3] >> 8 & 255,
      objectSize: w[at + 4] + w[at + 5] * 2 ** 32, slots: w[at + 6], free: w[at + 7],
      blocked: w[at + 8], pins: w[at + 9]};
  }

  /* Frames that are mapped onto this one's memory. */
  guestsOf(host) {
    const out = [];
    for (let i = 0; i < this.n && out.length < this.guests[host]; i++)
      if (this.flags[i] & FLAG.guest && this.memory(i) === host) out.push(i);
    return out;
  }
}

function bytesText(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let u = 0;
  for (; bytes >= 1023.95 && u + 1 < units.length; u++) bytes /= 1024;
  return (u === 0 ? bytes : bytes.toFixed(1)) + " " + units[u];
}

/* What a frame is, as [name, value] pairs. */
function describe(heap, i) {
  const kind = heap.kind(i), run = heap.runOf(i), flags = heap.flags[i], facts = [];
  const per = (part, whole) => whole === 0 ? "0" : Math.round(100 * part / whole) + " %";
  facts.push(["frame", i + " in hugepage " + Math.floor(i / HUGEPAGE)]);
  facts.push(["address", heap.address(i)]);
  if (run && heap.type[i] === TYPE.slab) {
    facts.push(["objects", run.objectSize + " B each (class " + run.cls + ")"]);
    facts.push(["slots", run.free + " of " + run.slots + " free, " +
      per(run.slots - run.free, run.slots) + " full"]);
    if (run.blocked > 0) facts.push(["for guests", run.blocked + " slots"]);
    facts.push(["this frame", per(heap.fill[i], 255) + " full"]);
  } else if (run) {
    facts.push(["size", bytesText(run.objectSize)]);
  }
  if (run) facts.push(["frames", run.nframes === 1 ? "1" : i - run.first + 1 + " of " + run.nframes]);
  if (flags & FLAG.guest) facts.push(["memory", "of frame " + heap.memory(i)]);
  else if (heap.guests[i] > 0) facts.push(["memory", "shared with " + heap.guests[i] +
    (heap.guests[i] === 1 ? " guest" : " guests")]);
  const words = ["pinned", "isolated", "frozen", "guard", "unsure"].filter(w => flags & FLAG[w]);
  if (flags & FLAG.huge) words.push("hugepage asked for");
  if (kind === KIND.hollow || kind === KIND.discarded) words.push("discarded");
  if (words.length > 0) facts.push(["", words.join(", ")]);
  return facts;
}

/* "slab, a guest": the kind in words. */
function titleOf(heap, i) {
  const kind = heap.kind(i);
  if (kind === KIND.host) return "slab, host";
  if (kind === KIND.guest) return "slab, guest";
  if (kind === KIND.hollow) return "slab, hollow here";
  return QUIRE.texts[kind];
}
