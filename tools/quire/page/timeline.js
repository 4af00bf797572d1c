/* The recording's course: memory held, and what lives of it, with a mark where one is. */

class Timeline {
  constructor(canvas, entries) {
    this.canvas = canvas;
    this.entries = entries;
    this.most = Math.max(1, ...entries.map(e => Math.max(e.held * FRAME, e.live)));
    this.length = Math.max(1e-9, entries[entries.length - 1].seconds);
  }

  /* Evenly by moment, as the slider over it is. */
  x(index, width) {
    return this.entries.length === 1 ? 0 : index / (this.entries.length - 1) * width;
  }

  area(c, width, height, value) {
    c.beginPath();
    c.moveTo(0, height);
    this.entries.forEach((e, i) =>
      c.lineTo(this.x(i, width), height - 2 - value(e) / this.most * (height - 6)));
    c.lineTo(width, height);
    c.closePath();
  }

  draw(theme, index, pinned) {
    const ratio = devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    const width = box.width, height = box.height, c = this.canvas.getContext("2d");
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    c.scale(ratio, ratio);
    this.area(c, width, height, e => e.held * FRAME);
    c.fillStyle = css(theme.colours[KIND.slab][1]);
    c.fill();
    this.area(c, width, height, e => e.live);
    c.fillStyle = css(theme.colours[KIND.slab][5]);
    c.fill();
    c.font = "11px system-ui, sans-serif";
    c.fillStyle = css(theme.ink);
    c.fillText(bytesText(this.most), 4, 12);
    for (const [at, colour] of [[pinned, theme.faint], [index, theme.ink]]) {
      if (at === null) continue;
      c.fillStyle = css(colour);
      c.fillRect(Math.min(width - 2, Math.max(0, this.x(at, width) - 1)), 0, 2, height);
    }
  }
}
