/* Cells on a canvas. A heap becomes an image of one pixel per cell, in pieces, each with halves of
 * itself (a pyramid), so that a million cells cost as much to show as a thousand. Signs are drawn
 * only where cells are large, and then there are few. */

const TILE_X = 33, TILE_Y = 17; /* cells of a hugepage, and a gap of one */
const PIECE_X = 30, PIECE_Y = 60; /* hugepages of a piece: an image of about 1000 x 1000 */
const SIGNS_FROM = 7; /* pixels of a cell */

/* Where hugepages lie: so many in a row. */
class Plan {
  constructor(hugepages, aspect) {
    const ideal = Math.sqrt(hugepages * TILE_Y * aspect / TILE_X);
    this.hugepages = Math.max(1, hugepages);
    this.columns = Math.min(this.hugepages, Math.max(1, Math.round(ideal)));
    this.rows = Math.ceil(this.hugepages / this.columns);
    this.width = this.columns * TILE_X - 1;
    this.height = this.rows * TILE_Y - 1;
  }

  /* The frame at a cell's place; -1 in gaps and beyond. */
  frameAt(x, y) {
    const column = Math.floor(x / TILE_X), row = Math.floor(y / TILE_Y);
    const inX = Math.floor(x) - column * TILE_X, inY = Math.floor(y) - row * TILE_Y;
    const hugepage = row * this.columns + column;
    if (column < 0 || row < 0 || column >= this.columns || hugepage >= this.hugepages ||
      inX === TILE_X - 1 || inY === TILE_Y - 1) return -1;
    return hugepage * HUGEPAGE + inY * 32 + inX;
  }

  placeOf(frame) {
    const hugepage = Math.floor(frame / HUGEPAGE), inside = frame % HUGEPAGE;
    return {x: hugepage % this.columns * TILE_X + inside % 32,
      y: Math.floor(hugepage / this.columns) * TILE_Y + Math.floor(inside / 32)};
  }
}

const abgr = rgb => (0xff000000 | (rgb & 0xff) << 16 | rgb & 0xff00 | rgb >> 16) >>> 0;
const css = rgb => "#" + rgb.toString(16).padStart(6, "0");

function blend(rgb, other, share) {
  let out = 0;
  for (let shift = 0; shift < 24; shift += 8) {
    const a = rgb >> shift & 255, b = other >> shift & 255;
    out |= Math.round(a + (b - a) * share) << shift;
  }
  return out;
}

/* Colours of cells as pixels; of all kinds, or of one while the others fade. */
function tableOf(theme, only) {
  const table = new Uint32Array(QUIRE.kinds.length * LEVELS);
  theme.colours.forEach((levels, kind) => levels.forEach((rgb, level) => {
    table[kind * LEVELS + level] = abgr(only === null || only === kind ? rgb
      : blend(rgb, theme.paper, 0.86));
  }));
  return table;
}

/* One piece: hugepages [x, x + PIECE_X) x [y, y + PIECE_Y) of the plan. */
class Piece {
  constructor(plan, x, y) {
    this.x = x;
    this.y = y;
    this.columns = Math.min(PIECE_X, plan.columns - x);
    this.rows = Math.min(PIECE_Y, plan.rows - y);
    this.levels = [];
    this.fresh = 0; /* levels that show what is now */
  }

  paint(heap, plan, table, marks) {
    const width = this.columns * TILE_X, height = this.rows * TILE_Y;
    if (!this.image) this.image = new ImageData(width, height);
    const pixels = new Uint32Array(this.image.data.buffer);
    for (let row = 0; row < this.rows; row++) {
      for (let column = 0; column < this.columns; column++) {
        const hugepage = (this.y + row) * plan.columns + this.x + column;
        const shown = hugepage < plan.hugepages && hugepage * HUGEPAGE < heap.n;
        for (let y = 0; y < 16; y++) {
          let at = (row * TILE_Y + y) * width + column * TILE_X, i = hugepage * HUGEPAGE + y * 32;
          for (let x = 0; x < 32; x++, at++, i++)
            pixels[at] = !shown ? 0 : marks[heap.marks[i] & 3] || table[heap.cells[i]];
        }
      }
    }
    const canvas = this.levels[0] || document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").putImageData(this.image, 0, 0);
    this.levels[0] = canvas;
    this.fresh = 1;
  }

  /* The image at 1 / 2^level. */
  level(level) {
    for (; this.fresh <= level; this.fresh++) {
      const from = this.levels[this.fresh - 1], to = this.levels[this.fresh] ||
        document.createElement("canvas");
      to.width = Math.max(1, Math.ceil(from.width / 2));
      to.height = Math.max(1, Math.ceil(from.height / 2));
      const c = to.getContext("2d");
      c.imageSmoothingEnabled = true;
      c.imageSmoothingQuality = "medium";
      c.drawImage(from, 0, 0, from.width / 2, from.height / 2);
      this.levels[this.fresh] = to;
    }
    return this.levels[level];
  }
}

class Surface {
  constructor(plan) {
    this.plan = plan;
    this.pieces = [];
    for (let y = 0; y < plan.rows; y += PIECE_Y)
      for (let x = 0; x < plan.columns; x += PIECE_X) this.pieces.push(new Piece(plan, x, y));
  }

  set(heap, theme, only) {
    const pinned = abgr(theme.marks[0]), frozen = abgr(theme.marks[1]);
    const marks = only === null ? [0, pinned, frozen, pinned] : [0, 0, 0, 0];
    const table = tableOf(theme, only);
    this.heap = heap;
    this.theme = theme;
    this.only = only;
    this.plain = [0, 0, 0, 0];
    this.table = table;
    this.marks = marks;
    for (const piece of this.pieces) piece.fresh = 0;
  }

  /* camera: {x, y, scale}: the cell at the canvas's corner, and pixels per cell. */
  draw(c, camera, from, to, height) {
    const s = camera.scale, signs = s >= SIGNS_FROM;
    const level = s >= 1 ? 0 : Math.min(6, Math.floor(Math.log2(1 / s) + 0.01));
    c.save();
    c.beginPath();
    c.rect(from, 0, to - from, height);
    c.clip();
    c.imageSmoothingEnabled = s < 1;
    for (const piece of this.pieces) {
      const x = (piece.x * TILE_X - camera.x) * s, y = (piece.y * TILE_Y - camera.y) * s;
      const width = piece.columns * TILE_X * s, tall = piece.rows * TILE_Y * s;
      if (x > to || y > height || x + width < from || y + tall < 0) continue;
      if (piece.fresh === 0 || piece.signs !== signs)
        piece.paint(this.heap, this.plan, this.table, signs ? this.plain : this.marks);
      piece.signs = signs;
      c.drawImage(piece.level(level), x, y, piece.level(level).width * s * 2 ** level,
        piece.level(level).height * s * 2 ** level);
    }
    if (signs) this.drawSigns(c, camera, from, to, height);
    c.restore();
  }

  /* What is in sight, each frame once: visit(frame, x, y) in pixels. */
  eachCell(camera, from, to, height, visit) {
    const s = camera.scale, plan = this.plan;
    const x0 = Math.max(0, Math.floor(camera.x + from / s)), x1 = camera.x + to / s;
    const y0 = Math.max(0, Math.floor(camera.y)), y1 = camera.y + height / s;
    for (let y = y0; y < y1 && y < plan.height; y++)
      for (let x = x0; x < x1 && x < plan.width; x++) {
        const frame = plan.frameAt(x, y);
        if (frame >= 0 && frame < this.heap.n)
          visit(frame, (x - camera.x) * s, (y - camera.y) * s);
      }
  }

  drawSigns(c, camera, from, to, height) {
    const s = camera.scale, heap = this.heap, theme = this.theme, batches = new Map();
    const line = Math.max(1, Math.round(s / 12)), dot = Math.max(2, Math.round(s / 6));
    const add = (colour, x, y, width, tall) => {
      if (!batches.has(colour)) batches.set(colour, []);
      batches.get(colour).push(x, y, width, tall);
    };
    const host = css(theme.colours[KIND.host][4]), slab = css(theme.colours[KIND.slab][2]);
    const faint = css(theme.colours[KIND.free][0]), paper = css(theme.paper);
    this.eachCell(camera, from, to, height, (i, x, y) => {
      const kind = heap.kind(i), marks = heap.marks[i];
      add(paper, x + s - 1, y, 1, s);
      add(paper, x, y + s - 1, s, 1);
      if (this.only !== null && this.only !== kind) return;
      if (kind === KIND.guest) { /* a frame around nothing */
        add(host, x, y, s - 1, line);
        add(host, x, y + s - 1 - line, s - 1, line);
        add(host, x, y, line, s - 1);
        add(host, x + s - 1 - line, y, line, s - 1);
      } else if (kind === KIND.host) {
        add(paper, x + s / 2 - dot / 2 - .5, y + s / 2 - dot / 2 - .5, dot, dot);
      } else if (kind === KIND.hollow) {
        add(slab, x + s / 2 - dot / 2, y + s / 2 - dot / 2, dot, dot);
      } else if (kind === KIND.discarded) {
        add(faint, x + s / 2 - dot / 2, y + s / 2 - dot / 2, dot, dot);
      }
      if (marks & MARK.frozen) add(css(theme.marks[1]), x, y + s * .72, s - 1, s * .2);
      if (marks & MARK.isolated) add(css(theme.marks[2]), x + s * .1, y + s * .1, s * .25, s * .25);
      if (marks & MARK.pinned) add(css(theme.marks[0]), x + s * .3, y + s * .3, s * .4, s * .4);
    });
    for (const [colour, rectangles] of batches) {
      c.fillStyle = colour;
      c.beginPath();
      for (let i = 0; i < rectangles.length; i += 4)
        c.rect(rectangles[i], rectangles[i + 1], rectangles[i + 2], rectangles[i + 3]);
      c.fill();
    }
  }

  /* An outline around frames; of many, only around those in sight. */
  outline(c, camera, frames, colour, from, to, height) {
    const s = camera.scale, size = Math.max(3, s);
    c.save();
    c.beginPath();
    c.rect(from, 0, to - from, height);
    c.clip();
    c.strokeStyle = colour;
    c.lineWidth = s > 10 ? 2 : 1.5;
    c.beginPath();
    for (const [first, n] of frames) this.outlineRun(c, camera, first, n, s, size);
    c.stroke();
    c.restore();
  }

  /* Row by row: a run wraps at a hugepage's edge. */
  outlineRun(c, camera, first, n, s, size) {
    for (let i = first; i < first + n;) {
      const row = Math.min(first + n - i, 32 - i % 32), at = this.plan.placeOf(i);
      c.rect((at.x - camera.x) * s - 1, (at.y - camera.y) * s - 1,
        Math.max(size, row * s) + 1, size + 1);
      i += row;
    }
  }
}
