"use strict";
// What the page does beyond being read; without this script it is whole. No request is made, nothing is stored.
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};
const draw = (name, attributes, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// Contents: closed on a narrow screen; mark the section that is being read.
const contents = document.querySelector("nav details");
if (contents && matchMedia("(max-width: 71.99rem)").matches) contents.open = false;
const links = new Map($$("nav a").map(link => [link.hash.slice(1), link]));
const places = [...links.keys()].map(id => document.getElementById(id));
const markCurrent = () => {
  const current = places.findLast(place => place.getBoundingClientRect().top < 120);
  for (const [id, link] of links) {
    if (id === current?.id) link.setAttribute("aria-current", "location");
    else link.removeAttribute("aria-current");
  }
};
addEventListener("scroll", markCurrent, { passive: true });
markCurrent();

// A link into something folded opens it.
const unfold = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let folded = target?.closest?.("details"); folded; folded = folded.parentElement.closest("details")) folded.open = true;
};
addEventListener("hashchange", unfold);
unfold();

// Copying: a button beside each text that is meant to be copied.
for (const text of $$("[data-copy]")) {
  const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
  button.setAttribute("aria-label", `Copy ${text.dataset.copy}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent.trim());
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  text.after(button);
}

// Previews: what a citation or reference names, on hover and on focus.
const card = make("div", { id: "preview", className: "preview", hidden: true });
card.setAttribute("role", "tooltip");
document.body.append(card);
let previewed = null, waiting = 0;
const hidePreview = () => {
  clearTimeout(waiting);
  previewed?.removeAttribute("aria-describedby");
  previewed = null;
  card.hidden = true;
};
const fillPreview = target => {
  card.replaceChildren();
  if (target.matches("figure")) {
    const drawing = $$(".plot > svg", target)[0]?.cloneNode(true);
    if (drawing) {
      for (const own of $$(".own, .redrawn", drawing)) own.classList.contains("own") ? own.remove() : own.classList.remove("redrawn");
      for (const element of [drawing, ...$$("[id]", drawing)]) element.removeAttribute("id");
      drawing.setAttribute("aria-hidden", "true");
      card.append(make("div", { className: "small" }, drawing));
    }
    card.append(...$$("figcaption > *", target).map(part => part.cloneNode(true)));
    const table = $$("table", target)[0];
    if (table) {
      const rows = $$("tbody tr", table);
      const copy = table.cloneNode(true);
      $$("tbody tr", copy).slice(4).forEach(row => row.remove());
      if (rows.length > 4) copy.append(make("caption", { textContent: `${rows.length - 4} more rows` }));
      card.append(copy);
    }
  } else if (target.matches("tr")) {
    card.append(...$$("td", target).map(cell => make("p", { innerHTML: cell.innerHTML })));
  } else {
    card.append(...[...target.childNodes].map(part => part.cloneNode(true)));
  }
  for (const element of $$("[id]", card)) element.removeAttribute("id");
  for (const link of $$("a", card)) link.tabIndex = -1;
};
const showPreview = link => {
  const target = document.getElementById(decodeURIComponent(link.hash.slice(1)));
  if (!target || link === previewed) return;
  hidePreview();
  fillPreview(target);
  previewed = link;
  link.setAttribute("aria-describedby", "preview");
  card.hidden = false;
  const at = link.getClientRects()[0], size = card.getBoundingClientRect();
  const above = at.top > size.height + 12 || at.top > innerHeight - at.bottom;
  card.style.left = `${clamp(at.left, 8, Math.max(8, document.documentElement.clientWidth - size.width - 8)) + scrollX}px`;
  card.style.top = `${(above ? Math.max(at.top - size.height - 6, 4) : at.bottom + 6) + scrollY}px`;
};
for (const link of $$("a[href^='#ref-'], a[href^='#fig-'], a[href^='#tbl-'], a[href^='#claim-']")) {
  link.addEventListener("pointerenter", event => {
    if (event.pointerType !== "mouse") return;
    clearTimeout(waiting);
    waiting = setTimeout(() => showPreview(link), 150);
  });
  link.addEventListener("pointerleave", () => { clearTimeout(waiting); waiting = setTimeout(hidePreview, 250); });
  link.addEventListener("focus", () => { if (link.matches(":focus-visible")) showPreview(link); });
  link.addEventListener("blur", hidePreview);
  link.addEventListener("click", hidePreview);
}
card.addEventListener("pointerenter", () => clearTimeout(waiting));
card.addEventListener("pointerleave", () => { waiting = setTimeout(hidePreview, 150); });
addEventListener("keydown", event => { if (event.key === "Escape") hidePreview(); });

// Figures: values under the pointer or by arrow keys, series off and on, zoom, linear and logarithmic axes.
const say = value => {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return value.toLocaleString("en");
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(value.toPrecision(4)));
};
const scales = {
  linear: { to: value => value ?? NaN, from: value => value },
  log: { to: value => (value > 0 ? Math.log10(value) : NaN), from: value => 10 ** value },
};
const niceStep = span => {
  const power = 10 ** Math.floor(Math.log10(span / 5)), rest = span / 5 / power;
  return power * (rest < 1.5 ? 1 : rest < 3.5 ? 2 : rest < 7.5 ? 5 : 10);
};
const listTicks = (scale, [low, high]) => {
  const found = [];
  if (scale === "log") {
    const decades = Math.log10(high / low);
    const every = Math.max(1, Math.ceil(decades / 7)), within = decades > 3.2 ? [1] : decades > 1.2 ? [1, 3] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      if (power % every === 0) for (const digit of within) found.push(Number(`${digit}e${power}`));
    const inside = found.filter(tick => tick >= low && tick <= high);
    if (inside.length >= 2) return inside;
  }
  found.length = 0;
  const step = niceStep(high - low);
  for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-12); i++) found.push(Number((i * step).toPrecision(12)));
  return found;
};
const readRows = csv => {
  const lines = csv.trim().split("\n").map(line =>
    [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(cell => (cell[1] !== undefined ? cell[1].replaceAll('""', '"') : cell[2])));
  const names = lines.shift();
  return lines.map(cells => Object.fromEntries(names.map((name, i) => [name, cells[i]])));
};
// What a link to data holds: a CSV as it is, or packed by gzip.
const readData = link => {
  const data = link.href.slice(link.href.indexOf(",") + 1);
  if (link.href.startsWith("data:text/csv")) return decodeURIComponent(data);
  const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};

class Panel {
  constructor(plot, about, group) {
    Object.assign(this, { plot, about, group });
    this.home = { x: { ...about.x }, y: { ...about.y } };
    this.x = { ...about.x };
    this.y = { ...about.y };
    this.series = about.series.filter(one => one.x);
    this.own = draw("g", { class: "own" });
    group.append(this.own);
  }
  get isLong() { return !this.about.x.words && !this.about.y.words && this.series.some(one => one.x.length >= 5 && one.width > 0); }
  get isHome() { return ["x", "y"].every(side => this[side].scale === this.home[side].scale && this[side].limits.join() === this.home[side].limits.join()); }
  get visible() { return this.series.filter(one => !this.plot.hidden.has(one.name)); }
  at(side, value) {
    const axis = this[side], { to } = scales[axis.scale] ?? scales.linear, [left, top, right, bottom] = this.about.box;
    const share = (to(value) - to(axis.limits[0])) / (to(axis.limits[1]) - to(axis.limits[0]));
    return side === "x" ? left + share * (right - left) : bottom - share * (bottom - top);
  }
  value(side, place) {
    const axis = this[side], { to, from } = scales[axis.scale] ?? scales.linear, [left, top, right, bottom] = this.about.box;
    const share = side === "x" ? (place - left) / (right - left) : (bottom - place) / (bottom - top);
    return from(to(axis.limits[0]) + share * (to(axis.limits[1]) - to(axis.limits[0])));
  }
  word(side, value) {
    const words = this.about[side].words;
    if (!words) return say(value);
    return words.reduce((best, word) => (Math.abs(word[0] - value) < Math.abs(best[0] - value) ? word : best))[1];
  }
  place(event) {
    const matrix = this.group.getScreenCTM();
    return matrix && new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
  }
  holds(point, slack = 4) {
    const [left, top, right, bottom] = this.about.box;
    return point.x >= left - slack && point.x <= right + slack && point.y >= top - slack && point.y <= bottom + slack;
  }
  isInside(one, i) {
    const x = this.at("x", one.x[i]), y = this.at("y", one.y[i]);
    return Number.isFinite(x) && Number.isFinite(y) && this.holds({ x, y }, 1);
  }
  nearest(point) {
    let best = null;
    for (const one of this.visible)
      for (let i = 0; i < one.x.length; i++) {
        if (!this.isInside(one, i)) continue;
        const distance = Math.hypot(this.at("x", one.x[i]) - point.x, (this.at("y", one.y[i]) - point.y));
        if (!best || distance < best.distance) best = { one, i, distance };
      }
    return best;
  }
  canScale(side) {
    if (!this.isLong) return false;
    const values = this.series.flatMap(one => one[side]).filter(Number.isFinite);
    const low = Math.min(...values), high = Math.max(...values);
    return low > 0 && high / low >= 4 && (side === "y" || this.home.x.scale === "log");
  }
  fit(side) {
    const axis = this[side], values = [];
    for (const one of this.visible)
      one[side].forEach((value, i) => {
        const other = side === "y" ? one.x[i] : one.y[i], limits = this[side === "y" ? "x" : "y"].limits;
        if (Number.isFinite(value) && (side === "x" || (other >= limits[0] && other <= limits[1])) && (axis.scale !== "log" || value > 0)) values.push(value);
      });
    if (!values.length) return;
    const { to, from } = scales[axis.scale], low = to(Math.min(...values)), high = to(Math.max(...values)), room = (high - low || 1) * 0.05;
    axis.limits = [from(low - room), from(high + room)];
  }
  scale(side, scale) {
    this[side].scale = scale;
    if (scale === this.home[side].scale && this.x.limits.join() === this.home.x.limits.join()) this[side].limits = [...this.home[side].limits];
    else this.fit(side);
    this.redraw();
  }
  zoom(low, high) {
    const { to } = scales[this.x.scale] ?? scales.linear, whole = this.home.x.limits;
    const { from } = scales[this.x.scale] ?? scales.linear;
    low = Math.max(low, this.x.scale === this.home.x.scale ? whole[0] : low);
    high = Math.min(high, this.x.scale === this.home.x.scale ? whole[1] : high);
    if (!(to(high) - to(low) > 1e-3 * (to(whole[1]) - to(whole[0])))) return;
    this.x.limits = [low, high];
    if (this.x.limits.join() === whole.join() && this.y.scale === this.home.y.scale) this.y.limits = [...this.home.y.limits];
    else this.fit("y");
    this.redraw(from);
  }
  zoomBy(factor) {
    const { to, from } = scales[this.x.scale] ?? scales.linear, [low, high] = this.x.limits.map(to);
    const middle = (low + high) / 2, half = ((high - low) / 2) * factor;
    this.zoom(from(middle - half), from(middle + half));
  }
  reset() {
    this.x = { ...this.home.x, limits: [...this.home.x.limits] };
    this.y = { ...this.home.y, limits: [...this.home.y.limits] };
    this.redraw();
  }
  path(one, xs, ys) {
    let pen = "M", d = "";
    xs.forEach((x, i) => {
      const left = this.at("x", x), top = this.at("y", ys[i]);
      if (!Number.isFinite(left) || !Number.isFinite(top)) { pen = "M"; return; }
      d += `${pen}${left.toFixed(2)} ${clamp(top, -1e4, 1e4).toFixed(2)}`;
      pen = "L";
    });
    return d;
  }
  redraw() {
    this.own.replaceChildren();
    const anew = !this.isHome;
    this.group.classList.toggle("redrawn", anew);
    const [left, top, right, bottom] = this.about.box, clip = `${this.plot.id}-clip-${this.about.index}`;
    const frame = draw("g", { "clip-path": `url(#${clip})` });
    this.own.append(draw("clipPath", { id: clip }, draw("rect", { x: left, y: top, width: right - left, height: bottom - top })), frame);
    if (anew) {
      for (const side of ["x", "y"])
        for (const tick of listTicks(this[side].scale, this[side].limits)) {
          const place = this.at(side, tick), line = side === "x" ? { x1: place, x2: place, y1: top, y2: bottom } : { x1: left, x2: right, y1: place, y2: place };
          this.own.append(draw("line", { ...line, class: "grid" }));
          const where = side === "x" ? { x: place, y: bottom + 11, "text-anchor": "middle" } : { x: left - 4, y: place + 2.8, "text-anchor": "end" };
          this.own.append(draw("text", where, say(tick)));
        }
      this.own.append(draw("path", { class: "edge", d: `M${left} ${top}V${bottom}H${right}` }));
      this.own.append(frame);
      for (const mark of this.about.marks) {
        const x = this.at("x", mark.x);
        frame.append(draw("line", { x1: x, x2: x, y1: top, y2: bottom, style: `stroke:${this.plot.ink(mark.color)}`, "stroke-dasharray": "4 2" }));
      }
    }
    for (const one of this.visible) {
      const color = this.plot.ink(one.color);
      if (anew && one.band) {
        const [xs, low, high] = one.band;
        const outline = this.path(one, xs, high) + this.path(one, [...xs].reverse(), [...low].reverse()).replace("M", "L");
        frame.append(draw("path", { d: `${outline}Z`, style: `fill:${color};fill-opacity:.2;stroke:none` }));
      }
      if (anew && one.width) frame.append(draw("path", {
        d: this.path(one, one.x, one.y), style: `fill:none;stroke:${color};stroke-width:${one.width}`, "stroke-dasharray": (one.dash ?? []).map(length => length * one.width).join(" ") }));
      if (anew && one.marker) one.x.forEach((x, i) => {
        if (this.isInside(one, i)) frame.append(draw("circle", { cx: this.at("x", x), cy: this.at("y", one.y[i]), r: 1.8, style: `fill:${color}` }));
      });
      if (this.plot.showsSeeds) for (const [, points] of this.seedsOf(one)) frame.append(draw("path", {
        d: this.path(one, points.map(point => point[0]), points.map(point => point[1])), style: `fill:none;stroke:${color};stroke-width:.6;stroke-opacity:.8` }));
    }
    this.own.append(this.spot = draw("g", { class: "spot" }));
  }
  seedsOf(one) {
    const seeds = this.about.seeds;
    const found = new Map();
    if (!seeds) return found;
    for (const row of this.plot.rows ?? []) {
      if (row[seeds.by] !== one.name || row.seed === "" || row.seed === undefined) continue;
      if (Object.entries(seeds.where).some(([name, value]) => row[name] !== value)) continue;
      const point = [row[seeds.x], row[seeds.y]];
      if (point.some(value => value === "" || value === undefined)) continue;
      if (!found.has(row.seed)) found.set(row.seed, []);
      found.get(row.seed).push(point.map(Number));
    }
    return found;
  }
  point(one, i) {
    this.spot?.replaceChildren();
    if (one === null) return;
    const [, top, , bottom] = this.about.box, x = this.at("x", one.x[i]), y = this.at("y", one.y[i]);
    this.spot.append(draw("line", { x1: x, x2: x, y1: top, y2: bottom, class: "grid" }), draw("circle", { cx: x, cy: y, r: 3.2, style: `stroke:${this.plot.ink(one.color)}` }));
  }
}

class Plot {
  constructor(figure, panels) {
    Object.assign(this, { figure, id: figure.id, hidden: new Set(), showsSeeds: false, current: null });
    this.box = $$(".plot", figure)[0];
    this.svg = $$("svg", this.box)[0];
    this.names = $$("[data-series]", this.svg);
    this.panels = panels.map((about, index) => new Panel(this, { ...about, index }, $$(`[data-panel="${index}"]`, this.svg)[0]));
    this.status = make("p", { className: "unseen" });
    this.status.setAttribute("role", "status");
    this.read = make("div", { className: "readout", hidden: true });
    this.read.setAttribute("aria-hidden", "true");
    this.addTools();
    this.box.after(this.tools, this.status);
    figure.append(this.read);
    for (const panel of this.panels) panel.redraw();
    this.listen();
  }
  async readSeeds() { this.rows ??= readRows(await readData($$(".data a[download]", this.figure)[0])); }
  ink(color) { return inks[color] ?? color; }
  addTools() {
    this.tools = make("div", { className: "tools" });
    this.tools.setAttribute("role", "group");
    this.tools.setAttribute("aria-label", `Series and axes of ${$$(".number", this.figure)[0]?.textContent ?? "the figure"}`);
    const add = (text, act, pressed, color) => {
      const button = make("button", { type: "button" });
      if (color) button.className = "series";
      if (color) button.append(make("i", { style: `background:${this.ink(color)}` }));
      button.append(text);
      if (pressed !== undefined) button.setAttribute("aria-pressed", pressed);
      button.addEventListener("click", () => act(button));
      this.tools.append(button);
      return button;
    };
    const series = new Map(this.panels.flatMap(panel => panel.series.map(one => [one.name, one.color])));
    if (series.size > 1) for (const [name, color] of series) add(name, button => {
      if (!this.hidden.delete(name)) this.hidden.add(name);
      button.setAttribute("aria-pressed", !this.hidden.has(name));
      this.hide();
    }, true, color);
    if (this.panels.some(panel => panel.about.seeds)) add("each seed", async button => {
      this.showsSeeds = !this.showsSeeds;
      button.setAttribute("aria-pressed", this.showsSeeds);
      await this.readSeeds();
      for (const panel of this.panels) panel.redraw();
    }, false);
    for (const side of ["x", "y"]) {
      const able = this.panels.filter(panel => panel.canScale(side));
      if (able.length) this[`${side}Button`] = add(`log ${side}`, () => this.toggleScale(side), able[0][side].scale === "log");
    }
    if (this.panels.some(panel => panel.isLong)) {
      add("+", () => this.zoomBy(0.5)).setAttribute("aria-label", "Zoom in");
      add("−", () => this.zoomBy(2)).setAttribute("aria-label", "Zoom out");
      this.whole = add("as printed", () => this.reset());
    }
    this.name();
  }
  name() {
    for (const side of ["x", "y"]) {
      const button = this[`${side}Button`], first = this.panels.find(panel => panel.canScale(side));
      if (button) button.setAttribute("aria-pressed", first[side].scale === "log");
    }
    if (this.whole) this.whole.disabled = this.panels.every(panel => panel.isHome);
  }
  toggleScale(side) {
    const able = this.panels.filter(panel => panel.canScale(side)), scale = able[0][side].scale === "log" ? "linear" : "log";
    for (const panel of able) panel.scale(side, scale);
    this.name();
  }
  zoomBy(factor) {
    const panels = this.current ? [this.current.panel] : this.panels;
    for (const panel of panels) if (panel.isLong) panel.zoomBy(factor);
    this.name();
  }
  reset() {
    for (const panel of this.panels) panel.reset();
    this.name();
    this.leave();
  }
  restore() {
    this.hidden.clear();
    this.showsSeeds = false;
    for (const button of $$("[aria-pressed]", this.tools)) button.setAttribute("aria-pressed", button.className === "series");
    this.hide();
    this.reset();
  }
  hide() {
    for (const element of this.names) {
      const panel = this.panels[element.dataset.of], name = panel.about.series[element.dataset.series].name;
      element.style.display = this.hidden.has(name) ? "none" : "";
    }
    this.leave();
    for (const panel of this.panels) panel.redraw();
  }
  show(panel, one, i, spoken) {
    this.current = { panel, one, i };
    for (const other of this.panels) other.point(other === panel ? one : null, i);
    const x = panel.about.x.label || "x", y = panel.about.y.label || "y", words = panel.about.y.words;
    const lines = words ? [[one, `${panel.word("y", one.y[i])}: ${panel.word("x", one.x[i])}`]] : [];
    if (!words) for (const other of panel.visible) {
      let at = -1;
      other.x.forEach((value, k) => {
        if (panel.isInside(other, k) && (at < 0 || Math.abs(panel.at("x", value) - panel.at("x", one.x[i])) < Math.abs(panel.at("x", other.x[at]) - panel.at("x", one.x[i])))) at = k;
      });
      if (other === one) at = i;
      if (at >= 0 && Math.abs(panel.at("x", other.x[at]) - panel.at("x", one.x[i])) < 6) lines.push([other, `${other.name}: ${say(other.y[at])}`]);
    }
    this.read.replaceChildren(make("div", { textContent: words ? x : `${x} ${panel.word("x", one.x[i])} · ${y}` }), ...lines.map(([other, text]) =>
      make("div", { className: other === one ? "this" : "" }, make("i", { style: `background:${this.ink(other.color)}` }), text)));
    this.read.hidden = false;
    const spot = new DOMPoint(panel.at("x", one.x[i]), panel.at("y", one.y[i])).matrixTransform(panel.group.getScreenCTM());
    const frame = this.figure.getBoundingClientRect(), size = this.read.getBoundingClientRect();
    const left = spot.x - frame.left + (spot.x - frame.left + 14 + size.width > frame.width ? -14 - size.width : 14);
    this.read.style.left = `${clamp(left, 0, Math.max(0, frame.width - size.width))}px`;
    this.read.style.top = `${Math.max(0, spot.y - frame.top - size.height / 2)}px`;
    if (spoken) this.status.textContent = words
      ? `${panel.word("y", one.y[i])}: ${x} ${panel.word("x", one.x[i])}`
      : `${one.name}: ${x} ${panel.word("x", one.x[i])}, ${y} ${say(one.y[i])}, point ${one.x.slice(0, i + 1).filter(Number.isFinite).length} of ${one.x.filter(Number.isFinite).length}`;
  }
  leave() {
    this.current = null;
    this.read.hidden = true;
    for (const panel of this.panels) panel.point(null);
  }
  listen() {
    const { box } = this;
    box.tabIndex = 0;
    box.setAttribute("role", "application");
    box.setAttribute("aria-roledescription", "figure");
    box.setAttribute("aria-label", `${this.svg.getAttribute("aria-label")} Arrow keys read its values.`);
    this.svg.setAttribute("aria-hidden", "true");
    let start = null, veil = null;
    const find = event => this.panels.map(panel => [panel, panel.place(event)]).find(([panel, point]) => point && panel.holds(point)) ?? [];
    box.addEventListener("pointermove", event => {
      if (start) {
        const { panel, x } = start, point = panel.place(event), [left, top, right, bottom] = panel.about.box, end = clamp(point.x, left, right);
        veil ??= panel.own.appendChild(draw("rect", { class: "veil", y: top, height: bottom - top }));
        veil.setAttribute("x", Math.min(x, end));
        veil.setAttribute("width", Math.abs(end - x));
        start.end = end;
        return;
      }
      const [panel, point] = find(event), best = panel?.nearest(point);
      if (best) this.show(panel, best.one, best.i);
      else if (document.activeElement !== box) this.leave();
    });
    box.addEventListener("pointerleave", () => { if (!start && !box.matches(":focus-visible")) this.leave(); });
    box.addEventListener("pointerdown", event => {
      const [panel, point] = find(event);
      if (panel?.isLong && event.pointerType === "mouse" && event.button === 0) {
        start = { panel, x: point.x };
        box.setPointerCapture(event.pointerId);
        event.preventDefault();
      } else if (panel) {
        const best = panel.nearest(point);
        if (best) this.show(panel, best.one, best.i);
      }
    });
    const finish = () => {
      veil?.remove();
      veil = null;
      if (start?.end !== undefined && Math.abs(start.end - start.x) > 5) {
        const ends = [start.x, start.end].sort((a, b) => a - b).map(place => start.panel.value("x", place));
        start.panel.zoom(...ends);
        this.leave();
        this.name();
      }
      start = null;
    };
    box.addEventListener("pointerup", finish);
    box.addEventListener("pointercancel", finish);
    box.addEventListener("dblclick", () => this.reset());
    box.addEventListener("blur", () => this.leave());
    box.addEventListener("keydown", event => this.press(event));
  }
  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const every = this.panels.flatMap(panel => panel.visible.map(one => ({ panel, one, points: one.x.map((_, i) => i).filter(i => panel.isInside(one, i)) }))).filter(entry => entry.points.length);
    if (!every.length) return;
    const found = this.current ? every.findIndex(entry => entry.panel === this.current.panel && entry.one === this.current.one) : -1;
    let at = Math.max(found, 0), k = found < 0 ? -1 : every[at].points.indexOf(this.current.i);
    const steps = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 };
    if (event.key in steps) k = found < 0 ? 0 : clamp(k + steps[event.key], 0, every[at].points.length - 1);
    else if (event.key === "Home") k = 0;
    else if (event.key === "End") k = every[at].points.length - 1;
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const before = found < 0 ? null : every[at].one.x[this.current.i], panel = every[at].panel;
      if (found >= 0) at = (at + (event.key === "ArrowDown" ? 1 : every.length - 1)) % every.length;
      const { one, points } = every[at];
      k = before === null || every[at].panel !== panel ? 0 : points.reduce((best, i, n) => (Math.abs(one.x[i] - before) < Math.abs(one.x[points[best]] - before) ? n : best), 0);
    } else if (event.key === "+" || event.key === "=") return void this.zoomBy(0.5);
    else if (event.key === "-") return void this.zoomBy(2);
    else if (event.key === "0") return void this.reset();
    else if (event.key === "Escape") return void this.leave();
    else return;
    event.preventDefault();
    this.show(every[at].panel, every[at].one, every[at].points[k], true);
  }
}

const inks = JSON.parse(document.getElementById("inks")?.textContent ?? "{}");
const plots = $$("script.panels").map(data => new Plot(data.closest("figure"), JSON.parse(data.textContent)));
addEventListener("beforeprint", () => { for (const plot of plots) plot.restore(); });
