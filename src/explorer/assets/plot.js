"use strict";
// A histogram of one feature map, on the page and in what it exports.

function plot(maxima, here) {
  const every = [...maxima.rgb, ...maxima.grey, here].filter(Number.isFinite);
  const low = Math.min(...every), high = Math.max(...every);
  const bins = 14, width = 420, height = 190, foot = 26, head = 24, span = high - low || 1;
  const count = (values) => {
    const found = new Array(bins).fill(0);
    for (const value of values) found[Math.min(bins - 1, Math.floor((bins * (value - low)) / span))] += 1;
    return found;
  };
  const rgb = count(maxima.rgb), grey = count(maxima.grey);
  const most = Math.max(...rgb, ...grey, 1);
  const x = (bin) => 8 + ((width - 16) * bin) / bins;
  const y = (n) => head + (height - foot - head) * (1 - n / most);
  const steps = (counts) => `M${x(0)} ${y(0)}` + counts.map((n, b) => `V${y(n)}H${x(b + 1)}`).join("") + `V${y(0)}`;
  const at = 8 + ((width - 16) * (here - low)) / span;
  const svg = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const drawn = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": "Histogram of the map's largest value in each image, in colour and in grey" });
  drawn.append(
    svg("line", { class: "axis", x1: 8, x2: width - 8, y1: y(0), y2: y(0) }),
    svg("path", { class: "rgb", d: steps(rgb) }), svg("path", { class: "grey", d: steps(grey) }),
    svg("line", { class: "here", x1: at, x2: at, y1: head - 6, y2: y(0) }),
    svg("text", { x: Math.max(32, Math.min(width - 32, at)), y: 13, "text-anchor": "middle" }, "this image"),
    svg("text", { x: 8, y: height - 9 }, low.toPrecision(3)),
    svg("text", { x: width - 8, y: height - 9, "text-anchor": "end" }, high.toPrecision(3)),
    svg("text", { x: width / 2, y: height - 9, "text-anchor": "middle" }, "largest value over space"),
  );
  return drawn;
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};
