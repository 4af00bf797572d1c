/* The page: what is shown, and what keys, wheel and pointer do. */

const $ = id => document.getElementById(id);

class View {
  constructor(recording) {
    this.recording = recording;
    this.entries = recording.entries;
    this.canvas = $("map");
    this.camera = {x: 0, y: 0, scale: 1};
    this.dark = QUIRE.theme ? QUIRE.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    this.only = null;       /* a kind that stands out, or null */
    this.index = 0;         /* the moment that is shown */
    this.pinned = null;     /* the moment before, while comparing */
    this.border = 0.5;      /* of before and after, a share of the width */
    this.sides = [null, null]; /* surfaces: before, or null; and what is shown */
    this.hovered = null;    /* {surface, frame} */
    this.playing = false;
    this.pointers = new Map();
    /* What the legend lists. What comes and goes while a recording plays is listed from the
     * beginning: nothing moves then. */
    this.listed = new Set(this.entries.length < 2 ? []
      : ["slab", "host", "guest", "folio", "free", "hollow", "discarded", "unused"]);
    this.fitted = true;
  }

  async start() {
    const two = QUIRE.labels.length === 2;
    this.largest = 1;
    this.texts();
    this.listen();
    this.setTheme(this.dark);
    await this.show(two ? 1 : 0);
    if (two) await this.compare(0);
    else this.say();
    $("player").hidden = this.entries.length < 2 || two;
    $("compare").hidden = this.entries.length < 2;
    if (!$("player").hidden) {
      $("seek").max = this.entries.length - 1;
      this.timeline = new Timeline($("timeline"), this.entries);
    }
    this.resize();
  }

  get theme() { return this.dark ? QUIRE.dark : QUIRE.light; }
  get surface() { return this.sides[1]; }

  /* ---- what is shown ---- */

  /* The plan is for the largest heap so far: cells keep their places while the heap grows in it. */
  surfaceOf(heap) {
    if (heap.hugepages > this.largest || !this.plan) {
      this.largest = Math.max(this.largest, heap.hugepages);
      this.replan();
    }
    const surface = new Surface(this.plan);
    surface.set(heap, this.theme, this.only);
    return surface;
  }

  replan() {
    this.plan = new Plan(this.largest, this.width() / Math.max(1, this.height()));
    this.sides.forEach((old, side) => {
      if (!old) return;
      this.sides[side] = new Surface(this.plan);
      this.sides[side].set(old.heap, this.theme, this.only);
    });
    if (this.fitted) this.fit();
  }

  async show(index) {
    const heap = await this.recording.read(index);
    this.index = index;
    if (this.sides[1] && heap.hugepages <= this.largest)
      this.sides[1].set(heap, this.theme, this.only);
    else this.sides[1] = this.surfaceOf(heap);
    $("seek").value = index;
    this.hoverAgain();
    this.say();
    this.redraw();
  }

  /* With the moment `pinned` on the left; null: no more. */
  async compare(pinned) {
    const heap = pinned === null ? null : await this.recording.read(pinned);
    this.pinned = pinned;
    this.sides[0] = heap ? this.surfaceOf(heap) : null;
    for (const id of ["divider", "left", "right"]) $(id).hidden = !heap;
    $("compare").setAttribute("aria-pressed", String(heap !== null));
    this.say();
    this.placeBorder();
    this.redraw();
  }

  toggleCompare() { return this.compare(this.pinned === null ? 0 : null); }

  recolour() {
    for (const surface of this.sides) if (surface) surface.set(surface.heap, this.theme, this.only);
    this.redraw();
  }

  setTheme(dark) {
    this.dark = dark;
    for (const name of ["paper", "ink", "faint"])
      document.documentElement.style.setProperty("--" + name, css(this.theme[name]));
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    this.recolour();
    if (this.surface) this.say();
  }

  /* ---- words ---- */

  texts() {
    const r = this.recording;
    document.title = "heap of " + r.comm;
    $("name").textContent = r.comm;
    $("sub").title = r.cmdline;
    this.canvas.setAttribute("aria-label", "map of the heap of " + r.comm);
  }

  labelOf(index) {
    if (QUIRE.labels.length === 2) return QUIRE.labels[index];
    return this.entries[index].seconds.toFixed(1) + " s";
  }

  say() {
    const heap = this.surface && this.surface.heap, before = this.sides[0] && this.sides[0].heap;
    if (!heap) return;
    const total = (name, value) => {
      const div = document.createElement("div"), b = document.createElement("b");
      const span = document.createElement("span");
      const now = bytesText(value(heap.entry)), was = before ? bytesText(value(before.entry)) : now;
      b.textContent = was === now ? now : was + " \u2192 " + now;
      span.textContent = name;
      div.append(b, span);
      return div;
    };
    $("sub").textContent = "pid " + this.recording.pid + ", " +
      new Date(heap.entry.time * 1000).toLocaleString() +
      (this.recording.cmdline ? ", " + this.recording.cmdline : "");
    $("totals").replaceChildren(total("memory held", e => e.held * FRAME),
      total("live", e => e.live));
    $("time").textContent = heap.entry.seconds.toFixed(1) + " s";
    if (before) {
      $("left").textContent = this.labelOf(this.pinned);
      $("right").textContent = this.labelOf(this.index);
    }
    this.sayLegend(heap, before);
  }

  sayLegend(heap, before) {
    const items = [], count = (h, kind) => h.kinds[kind];
    const order = ["slab", "host", "guest", "folio", "owned", "meta", "free", "hollow", "discarded",
      "guard", "poison", "reserved", "unsure", "unused"];
    const amount = value => before && value(before) !== value(heap)
      ? bytesText(value(before) * FRAME) + " \u2192 " + bytesText(value(heap) * FRAME)
      : bytesText(value(heap) * FRAME);
    for (const name of order) {
      const kind = KIND[name];
      if (count(heap, kind) || before && count(before, kind)) this.listed.add(name);
      if (!this.listed.has(name)) continue;
      const shaded = name === "slab" || name === "host";
      const colours = shaded ? this.theme.colours[kind] : [this.theme.colours[kind][LEVELS - 1]];
      const item = this.legendItem(colours, QUIRE.texts[kind], amount(h => h.kinds[kind]));
      item.dataset.kind = name;
      item.setAttribute("aria-selected", String(this.only === kind));
      item.addEventListener("pointerenter", () => this.highlight(kind));
      item.addEventListener("pointerleave", () => this.highlight(null));
      items.push(item);
    }
    for (const m of [0, 1])
      if (heap.marked[m] || before && before.marked[m])
        items.push(this.legendItem([this.theme.marks[m]], QUIRE.marks[m],
          amount(h => h.marked[m])));
    $("legend").replaceChildren(...items);
  }

  legendItem(colours, text, amount) {
    const li = document.createElement("li"), swatches = document.createElement("span");
    for (const rgb of colours) {
      const i = document.createElement("i");
      i.style.background = css(rgb);
      if (colours.length > 1) i.style.width = "7px";
      swatches.append(i);
    }
    const em = document.createElement("em");
    em.textContent = amount;
    li.append(swatches, document.createTextNode(text + " "), em);
    if (colours.length > 1) li.title = "from sparse to full";
    return li;
  }

  highlight(kind) {
    if (this.only === kind) return;
    this.only = kind;
    this.recolour();
  }

  /* ---- the canvas ---- */

  width() { return this.canvas.clientWidth || 1; }
  height() { return this.canvas.clientHeight || 1; }

  resize() {
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(this.width() * ratio);
    this.canvas.height = Math.round(this.height() * ratio);
    if (this.surface && this.fitted) this.replan();
    this.placeBorder();
    this.redraw();
  }

  fit() {
    const p = this.plan;
    const scale = Math.min(this.width() / p.width, this.height() / p.height, 24);
    this.camera = {scale, x: (p.width - this.width() / scale) / 2,
      y: Math.min(0, (p.height - this.height() / scale) / 2)};
    if (p.height * scale <= this.height()) this.camera.y = 0;
    this.fitted = true;
    this.redraw();
  }

  redraw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  draw() {
    if (!this.surface) return;
    const c = this.canvas.getContext("2d"), ratio = devicePixelRatio || 1;
    const width = this.width(), height = this.height(), border = this.sides[0] ? this.borderX() : 0;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = css(this.theme.paper);
    c.fillRect(0, 0, width, height);
    if (this.sides[0]) this.sides[0].draw(c, this.camera, 0, border, height);
    this.surface.draw(c, this.camera, border, width, height);
    this.drawHovered(c, border, width, height);
    if (this.timeline) this.timeline.draw(this.theme, this.index, this.pinned);
  }

  drawHovered(c, border, width, height) {
    if (!this.hovered) return;
    const {side, frame} = this.hovered, surface = this.sides[side];
    if (!surface || frame >= surface.heap.n) return;
    const heap = surface.heap, run = heap.runOf(frame), ink = css(this.theme.ink);
    const from = side === 0 ? 0 : border, to = side === 0 ? border : width;
    const others = heap.flags[frame] & FLAG.guest ? [[heap.memory(frame), 1]]
      : heap.guests[frame] > 0 ? heap.guestsOf(frame).map(i => [i, 1]) : [];
    if (run) surface.outline(c, this.camera, [[run.first, run.nframes]], css(this.theme.faint),
      from, to, height);
    surface.outline(c, this.camera, others, css(this.theme.marks[0]), from, to, height);
    surface.outline(c, this.camera, [[frame, 1]], ink, from, to, height);
  }

  /* Keeps the cell under (x, y) where it is. */
  zoom(factor, x = this.width() / 2, y = this.height() / 2) {
    const camera = this.camera, p = this.plan;
    const least = Math.min(this.width() / p.width, this.height() / p.height, 1) / 2;
    const scale = Math.min(64, Math.max(least, camera.scale * factor));
    camera.x += x / camera.scale - x / scale;
    camera.y += y / camera.scale - y / scale;
    camera.scale = scale;
    this.moved();
  }

  pan(dx, dy) {
    this.camera.x -= dx / this.camera.scale;
    this.camera.y -= dy / this.camera.scale;
    this.moved();
  }

  /* Some of the picture stays in sight. */
  moved() {
    const camera = this.camera, p = this.plan, keep = 40 / camera.scale;
    camera.x = Math.min(p.width - keep, Math.max(keep - this.width() / camera.scale, camera.x));
    camera.y = Math.min(p.height - keep, Math.max(keep - this.height() / camera.scale, camera.y));
    this.fitted = false;
    this.redraw();
  }

  /* ---- before and after ---- */

  borderX() { return Math.round(this.border * this.width()); }

  setBorder(share) {
    this.border = Math.min(1, Math.max(0, share));
    this.placeBorder();
    this.redraw();
  }

  placeBorder() {
    const x = this.borderX();
    $("divider").style.left = x + "px";
    $("divider").setAttribute("aria-valuenow", Math.round(this.border * 100));
    $("left").style.right = this.width() - x + 16 + "px";
    $("right").style.left = x + 16 + "px";
  }

  /* ---- what is under the pointer ---- */

  /* The frame at a place on the canvas: {side, frame}, or null. */
  at(x, y) {
    const side = this.sides[0] && x < this.borderX() ? 0 : 1, surface = this.sides[side];
    if (!surface) return null;
    const frame = this.plan.frameAt(this.camera.x + x / this.camera.scale,
      this.camera.y + y / this.camera.scale);
    return frame < 0 || frame >= surface.heap.n ? null : {side, frame};
  }

  hover(x, y) {
    this.pointer = {x, y};
    this.hovered = this.at(x, y);
    this.sayCard();
    this.redraw();
  }

  hoverAgain() { if (this.pointer) this.hover(this.pointer.x, this.pointer.y); }

  unhover() {
    this.pointer = this.hovered = null;
    this.sayCard();
    this.redraw();
  }

  sayCard() {
    const card = $("card");
    card.hidden = !this.hovered;
    if (!this.hovered) return;
    const {side, frame} = this.hovered, heap = this.sides[side].heap, h2 = document.createElement("h2");
    const swatch = document.createElement("i"), dl = document.createElement("dl");
    const cell = heap.cells[frame];
    swatch.style.background = css(this.theme.colours[heap.kind(frame)][cell % LEVELS]);
    h2.append(swatch, titleOf(heap, frame));
    for (const [name, value] of describe(heap, frame))
      dl.append(Object.assign(document.createElement("dt"), {textContent: name}),
        Object.assign(document.createElement("dd"), {textContent: value}));
    card.dataset.frame = frame;
    card.dataset.kind = QUIRE.kinds[heap.kind(frame)];
    card.replaceChildren(h2, dl);
    this.placeCard(card);
  }

  placeCard(card) {
    const {x, y} = this.pointer, gap = 18, w = card.offsetWidth, h = card.offsetHeight;
    card.style.left = Math.max(0, x + gap + w < this.width() ? x + gap : x - gap - w) + "px";
    card.style.top = Math.max(0, y + gap + h < this.height() ? y + gap : y - gap - h) + "px";
  }

  /* ---- playing ---- */

  play(on = !this.playing) {
    if ($("player").hidden) return;
    if (on && this.index === this.entries.length - 1) this.index = -1;
    this.playing = on;
    $("play").textContent = on ? "\u275a\u275a" : "\u25b6";
    $("play").setAttribute("aria-label", on ? "pause" : "play");
    if (on) this.playOn();
  }

  /* In the recording's own time; when the browser can't keep up, moments come later. */
  async playOn() {
    while (this.playing && this.index + 1 < this.entries.length) {
      const next = this.index + 1, gap = next === 0 ? 0
        : this.entries[next].seconds - this.entries[this.index].seconds;
      const began = performance.now();
      await this.show(next);
      const rest = gap * 1000 / Number($("speed").value) - (performance.now() - began);
      await new Promise(done => setTimeout(done, Math.max(0, rest)));
    }
    if (this.playing) this.play(false);
  }

  async jump(index) {
    if (this.playing) this.play(false);
    index = Math.min(this.entries.length - 1, Math.max(0, index));
    this.wanted = index;
    await this.show(index);
  }

  /* ---- input ---- */

  listen() {
    const canvas = this.canvas;
    const place = e => {
      const box = canvas.getBoundingClientRect();
      return [e.clientX - box.left, e.clientY - box.top];
    };
    new ResizeObserver(() => this.resize()).observe(canvas);
    canvas.addEventListener("wheel", e => {
      e.preventDefault();
      const step = e.deltaMode === 1 ? 24 : 1;
      this.zoom(Math.exp(-e.deltaY * step * (e.ctrlKey ? 0.01 : 0.0016)), ...place(e));
      this.hover(...place(e));
    }, {passive: false});
    canvas.addEventListener("pointerdown", e => this.press(e, place(e)));
    canvas.addEventListener("pointermove", e => this.drag(e, place(e)));
    for (const name of ["pointerup", "pointercancel"])
      canvas.addEventListener(name, e => {
        this.pointers.delete(e.pointerId);
        canvas.classList.remove("moving");
      });
    canvas.addEventListener("pointerleave", () => this.unhover());
    canvas.addEventListener("dblclick", e => this.zoom(2, ...place(e)));
    this.listenToDivider(place);
    const click = (id, action) => $(id).addEventListener("click", action);
    click("in", () => this.zoom(1.5));
    click("out", () => this.zoom(1 / 1.5));
    click("fit", () => { this.fitted = true; this.replan(); });
    click("compare", () => this.toggleCompare());
    click("theme", () => this.setTheme(!this.dark));
    click("keys", () => this.help());
    click("play", () => this.play());
    $("seek").addEventListener("input", e => this.jump(Number(e.target.value)));
    document.addEventListener("keydown", e => this.key(e));
  }

  press(e, [x, y]) {
    this.canvas.setPointerCapture(e.pointerId);
    this.pointers.set(e.pointerId, {x, y});
  }

  /* One pointer moves the picture, two zoom it. */
  drag(e, [x, y]) {
    const before = this.pointers.get(e.pointerId);
    if (before && this.pointers.size === 1) {
      this.canvas.classList.add("moving");
      this.pan(x - before.x, y - before.y);
    } else if (before && this.pointers.size === 2) {
      const other = [...this.pointers.entries()].find(([id]) => id !== e.pointerId)[1];
      const far = p => Math.max(8, Math.hypot(p.x - other.x, p.y - other.y));
      this.zoom(far({x, y}) / far(before), other.x, other.y);
    }
    if (before) this.pointers.set(e.pointerId, {x, y});
    this.hover(x, y);
  }

  listenToDivider(place) {
    const divider = $("divider");
    divider.addEventListener("pointerdown", e => {
      divider.setPointerCapture(e.pointerId);
      this.unhover();
    });
    divider.addEventListener("pointermove", e => {
      if (divider.hasPointerCapture(e.pointerId)) this.setBorder(place(e)[0] / this.width());
    });
  }

  help(on = $("help").hidden) {
    $("help").hidden = !on;
    $("keys").setAttribute("aria-expanded", String(on));
  }

  key(e) {
    if (e.ctrlKey || e.altKey || e.metaKey || e.target.tagName === "SELECT") return;
    const ontoDivider = e.target === $("divider"), step = 60;
    const actions = {
      "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(1 / 1.25),
      "0": () => { this.fitted = true; this.replan(); },
      ArrowLeft: () => ontoDivider ? this.setBorder(this.border - .02) : this.pan(step, 0),
      ArrowRight: () => ontoDivider ? this.setBorder(this.border + .02) : this.pan(-step, 0),
      ArrowUp: () => this.pan(0, step), ArrowDown: () => this.pan(0, -step),
      "[": () => this.setBorder(this.border - .05), "]": () => this.setBorder(this.border + .05),
      "c": () => this.entries.length > 1 && this.toggleCompare(),
      "b": () => this.entries.length > 1 && this.compare(this.index),
      "t": () => this.setTheme(!this.dark),
      " ": () => this.play(), ",": () => this.jump(this.index - 1),
      ".": () => this.jump(this.index + 1),
      "?": () => this.help(), Escape: () => { this.help(false); this.unhover(); },
    };
    if (e.target === $("seek") && e.key.startsWith("Arrow")) return;
    if (e.key === " " && e.target.tagName === "BUTTON") return;
    if (!actions[e.key]) return;
    e.preventDefault();
    actions[e.key]();
  }
}

async function begin() {
  const view = new View(new Recording(bytesOfBase64(QUIRE.recording)));
  QUIRE.recording = "";
  QUIRE.view = view;
  await view.start();
}

QUIRE.ready = begin().catch(error => {
  $("trouble").hidden = false;
  $("trouble").textContent = "This page can't show its heap: " + error.message;
  throw error;
});
