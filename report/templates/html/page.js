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
const isNarrow = matchMedia("(max-width: 71.99rem)").matches;
if (contents && isNarrow) {
  contents.open = false;
  contents.addEventListener("click", event => { if (event.target.closest("a")) contents.open = false; });
}
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
      for (const spot of $$(".spot", drawing)) spot.remove();
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
  } else if (target.closest("td")) {
    card.append(...$$("td", target.closest("tr")).map(cell => make("p", { innerHTML: cell.innerHTML })));
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
  link.addEventListener("pointerleave", () => {
    clearTimeout(waiting);
    if (previewed === link && document.activeElement !== link) waiting = setTimeout(hidePreview, 250);
  });
  link.addEventListener("focus", () => { if (link.matches(":focus-visible")) showPreview(link); });
  link.addEventListener("blur", hidePreview);
  link.addEventListener("click", hidePreview);
}
card.addEventListener("pointerenter", () => clearTimeout(waiting));
card.addEventListener("pointerleave", () => { waiting = setTimeout(hidePreview, 150); });
addEventListener("keydown", event => { if (event.key === "Escape") hidePreview(); });

// Figures: values under the pointer or by arrow keys, and a legend whose series can be hidden.
const say = value => {
  const size = Math.abs(value);
  if (value === 0 || (Number.isInteger(value) && size < 1e6)) return value.toLocaleString("en");
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(value.toPrecision(4)));
};
const project = (axis, value) => (axis.scale === "log" ? (value > 0 ? Math.log10(value) : NaN) : value ?? NaN);
const word = (axis, value) =>
  axis.words ? axis.words.reduce((best, one) => (Math.abs(one[0] - value) < Math.abs(best[0] - value) ? one : best))[1] : say(value);

class Plot {
  constructor(figure, panels) {
    this.box = $$(".plot", figure)[0];
    this.svg = $$("svg", this.box)[0];
    this.figure = figure;
    this.hidden = new Set();
    this.points = []; // what can be read: a list for each panel and series
    panels.forEach((panel, index) => {
      panel.group = $$(`[data-panel="${index}"]`, this.svg)[0];
      panel.group.append(panel.spot = draw("g", { class: "spot" }));
      for (const series of panel.series.filter(one => one.x)) this.points.push({ panel, series, at: this.place(panel, series) });
    });
    this.panels = panels;
    this.status = make("p", { className: "unseen", role: "status" });
    this.read = make("div", { className: "readout", hidden: true });
    this.read.setAttribute("aria-hidden", "true");
    this.box.after(this.legend(), this.status);
    figure.append(this.read);
    this.listen();
  }
  // Where the values of a series stand within their panel, in the drawing's points.
  place({ x, y, box: [left, top, right, bottom] }, series) {
    const share = (axis, value) => {
      const [low, high] = axis.limits.map(limit => project(axis, limit));
      return (project(axis, value) - low) / (high - low);
    };
    return series.x.map((value, i) => ({ i, x: left + share(x, value) * (right - left), y: bottom - share(y, series.y[i]) * (bottom - top) }))
      .filter(point => point.x >= left - 1 && point.x <= right + 1 && point.y >= top - 1 && point.y <= bottom + 1);
  }
  get visible() { return this.points.filter(({ series, at }) => at.length && !this.hidden.has(series.name)); }
  legend() {
    const tools = make("div", { className: "tools" });
    const colors = new Map(this.panels.flatMap(panel => panel.series.filter(one => one.color).map(one => [one.name, one.color])));
    if (colors.size < 2) return tools;
    tools.setAttribute("role", "group");
    tools.setAttribute("aria-label", `Legend of ${$$(".number", this.figure)[0]?.textContent ?? "the figure"}`);
    this.figure.classList.add("has-legend");
    for (const [name, color] of colors) {
      const button = make("button", { type: "button" }, make("i", { style: `background:${color}` }), name);
      button.setAttribute("aria-pressed", true);
      button.addEventListener("click", () => {
        if (!this.hidden.delete(name)) this.hidden.add(name);
        button.setAttribute("aria-pressed", !this.hidden.has(name));
        for (const element of $$("[data-series]", this.svg)) {
          const series = this.panels[element.dataset.of].series[element.dataset.series];
          element.style.display = this.hidden.has(series.name) ? "none" : "";
        }
        this.leave();
      });
      tools.append(button);
    }
    return tools;
  }
  show({ panel, series, at }, point, spoken) {
    this.leave();
    this.current = { panel, series, point };
    const [, top, , bottom] = panel.box;
    panel.spot.replaceChildren(draw("line", { x1: point.x, x2: point.x, y1: top, y2: bottom }), draw("circle", { cx: point.x, cy: point.y, r: 3.2, style: `stroke:${series.color}` }));
    const xs = word(panel.x, series.x[point.i]), xLabel = panel.x.label || "x", yLabel = panel.y.label || "y";
    const lines = [];
    for (const other of this.visible.filter(one => one.panel === panel)) {
      const near = other.series === series ? point : other.at.reduce((best, one) => (Math.abs(one.x - point.x) < Math.abs(best.x - point.x) ? one : best));
      if (Math.abs(near.x - point.x) < 6 && (!panel.y.words || other.series === series))
        lines.push(make("div", { className: other.series === series ? "this" : "" }, make("i", { style: `background:${other.series.color}` }), `${other.series.name}: ${word(panel.y, other.series.y[near.i])}`));
    }
    this.read.replaceChildren(make("div", { textContent: `${xLabel} ${xs} · ${yLabel}` }), ...lines);
    this.read.hidden = false;
    const spot = new DOMPoint(point.x, point.y).matrixTransform(panel.group.getScreenCTM());
    const frame = this.figure.getBoundingClientRect(), size = this.read.getBoundingClientRect();
    const right = spot.x - frame.left + 14;
    this.read.style.left = `${clamp(right + size.width > frame.width ? right - 28 - size.width : right, 0, Math.max(0, frame.width - size.width))}px`;
    this.read.style.top = `${Math.max(0, spot.y - frame.top - size.height / 2)}px`;
    if (spoken) this.status.textContent = `${series.name}: ${xLabel} ${xs}, ${yLabel} ${word(panel.y, series.y[point.i])}, point ${at.indexOf(point) + 1} of ${at.length}`;
  }
  leave() {
    this.current = null;
    this.read.hidden = true;
    for (const panel of this.panels) panel.spot.replaceChildren();
  }
  listen() {
    const { box } = this;
    box.tabIndex = 0;
    box.setAttribute("role", "application");
    box.setAttribute("aria-roledescription", "figure");
    box.setAttribute("aria-label", `${this.svg.getAttribute("aria-label")} Arrow keys read its values.`);
    this.svg.setAttribute("aria-hidden", "true");
    const find = event => {
      let best = null;
      for (const one of this.visible) {
        const matrix = one.panel.group.getScreenCTM(), [left, top, right, bottom] = one.panel.box;
        const pointer = matrix && new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
        if (!pointer || pointer.x < left - 4 || pointer.x > right + 4 || pointer.y < top - 4 || pointer.y > bottom + 4) continue;
        for (const point of one.at) {
          const distance = Math.hypot(point.x - pointer.x, point.y - pointer.y);
          if (!best || distance < best.distance) best = { one, point, distance };
        }
      }
      if (best) this.show(best.one, best.point);
      else if (document.activeElement !== box) this.leave();
    };
    box.addEventListener("pointermove", find);
    box.addEventListener("pointerdown", find);
    box.addEventListener("pointerleave", () => { if (!box.matches(":focus-visible")) this.leave(); });
    box.addEventListener("blur", () => this.leave());
    box.addEventListener("keydown", event => this.press(event));
  }
  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.visible.length) return;
    const every = this.visible, before = this.current;
    let k = before ? every.findIndex(one => one.series === before.series) : 0;
    let i = before ? every[k].at.indexOf(before.point) : -1;
    const steps = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 };
    if (event.key in steps) i = before || event.key === "End" ? clamp(i + steps[event.key], 0, every[k].at.length - 1) : 0;
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (before) k = (k + (event.key === "ArrowDown" ? 1 : every.length - 1)) % every.length;
      const x = before?.panel === every[k].panel ? before.point.x : -1e9;
      i = every[k].at.reduce((best, one, n) => (Math.abs(one.x - x) < Math.abs(every[k].at[best].x - x) ? n : best), 0);
    } else if (event.key === "Escape") return void this.leave();
    else return;
    event.preventDefault();
    this.show(every[k], every[k].at[i], true);
  }
}
for (const data of $$("script.panels")) new Plot(data.closest("figure"), JSON.parse(data.textContent));
