"use strict";
// The page's state is `state`; all of it is in the address. What is painted follows from it and
// from the server's answers; an answer to an older question is thrown away.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const page = Math.random().toString(36).slice(2);
const SLIDERS = ["jpeg", "blur", "resize"];
const REACH = 8; // logits either side of the track's middle
const TICKS = [0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999]; // probabilities

let about = null;
let numbers = 0;
let painted = 0;
const state = { image: "", conditions: {}, opacity: 80, benches: [] };
const benches = []; // of each bench: element, last answers
const newest = {};

// ---- words ----

const signed = (x, digits = 2) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);
const change = (x) => signed(x, Math.abs(x) < 0.0995 ? 3 : 2);
const logitOf = (p) => Math.log(p / (1 - p));
const shareOf = (logit) => 1 / (1 + Math.exp(-logit));
function percent(p) {
  if (p > 0.999) return ">\u00a099.9\u00a0%";
  if (p < 0.001) return "<\u00a00.1\u00a0%";
  return (100 * p).toFixed(1) + "\u00a0%";
}
function mapWords(name) {
  const found = /^(.+)\.#(\d+)\(T=(\d+)\)$/.exec(name);
  return found ? { layer: found[1], channel: `#${found[2]} of ${found[3]}` } : { layer: name, channel: "" };
}
function say(text) {
  $("#message").textContent = text || "";
  $("#message").hidden = !text;
}
function node(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...inside);
  return made;
}

// ---- asking ----

let under = 0; // questions under way
function asking(more) {
  under += more;
  document.body.dataset.busy = under > 0;
}

// Returns the answer, or null where something newer was asked in the same lane.
async function ask(what, bench, more = {}, lane = what) {
  const number = ++numbers;
  const key = `${lane}/${bench}`;
  newest[key] = number;
  const body = { page, lane: key, number, bench, image: state.image, conditions: state.conditions, ...more };
  let answer;
  asking(1);
  try {
    answer = await fetch("api/" + what, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    say("forensift explore does not answer: has it been closed in the terminal?");
    return null;
  } finally {
    asking(-1);
  }
  if (answer.status === 204 || newest[key] !== number) return null;
  const found = await answer.json().catch(() => ({ error: "the answer cannot be read" }));
  if (newest[key] !== number) return null;
  if (!answer.ok) {
    say(found.error || "refused");
    return null;
  }
  return found;
}

const masks = (i) => {
  const own = state.benches[i];
  return { by: own.by, k: own.k, off: [...own.off], on: [...own.on], value: own.value };
};
const changed = (i) => state.benches[i].k > 0 || state.benches[i].off.size > 0;

// ---- the address ----

let addressing = 0;
function toAddress() {
  clearTimeout(addressing);
  addressing = setTimeout(() => {
    const found = new URLSearchParams();
    if (state.image) found.set("image", state.image);
    for (const [name, value] of Object.entries(state.conditions)) found.set(name, value);
    if (state.opacity !== 80) found.set("opacity", state.opacity);
    state.benches.forEach((own, i) => {
      if (own.k) found.set("k" + i, own.k);
      if (own.by !== benches[i].by) found.set("by" + i, own.by);
      if (own.value !== "zero") found.set("value" + i, own.value);
      if (own.off.size) found.set("off" + i, [...own.off].join(" "));
      if (own.on.size) found.set("on" + i, [...own.on].join(" "));
      found.set("methods" + i, own.methods.join(" "));
      if (own.map) found.set("map" + i, own.map);
    });
    history.replaceState(null, "", "#" + found);
  }, 60);
}
function fromAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  const words = (name) => (found.get(name) || "").split(" ").filter(Boolean);
  const number = (name, other) => (Number.isFinite(parseFloat(found.get(name))) ? parseFloat(found.get(name)) : other);
  const first = about.images.find((one) => one.kind === "fake") || about.images[0] || {};
  state.image = found.get("image") || first.id || "";
  state.conditions = {};
  for (const name of [...SLIDERS, "grey"]) if (found.has(name)) state.conditions[name] = number(name, 1);
  state.opacity = number("opacity", 80);
  state.benches = about.benches.map((bench, i) => ({
    by: found.get("by" + i) || benches[i].by,
    k: number("k" + i, 0),
    off: new Set(words("off" + i)),
    on: new Set(words("on" + i)),
    value: bench.values.includes(found.get("value" + i)) ? found.get("value" + i) : "zero",
    methods: words("methods" + i).length === 2 ? words("methods" + i) : ["lrp", "gradcam"],
    map: found.get("map" + i) || "",
  }));
}

// ---- painting ----

const place = (logit) => `${(100 * (Math.min(REACH, Math.max(-REACH, logit)) + REACH)) / (2 * REACH)}%`;

function paintNumber(i) {
  const { element, whole, now } = benches[i];
  if (!whole) return;
  const at = changed(i) && now ? now : whole;
  const text = percent(at.probability);
  $(".probability", element).textContent = text;
  $(".now", element).style.left = place(at.logit);
  $(".whole", element).style.left = place(whole.logit);
  let line = `logit ${signed(at.logit)}`;
  if (at !== whole) {
    line += `, ${signed(at.logit - whole.logit)} against the whole network (${percent(whole.probability)})`;
  }
  $(".logit", element).textContent = line;
  element.dataset.painted = ++painted;
  clearTimeout(benches[i].saying);
  benches[i].saying = setTimeout(() => {
    $("[data-say]", element).textContent = `${about.benches[i].name}: ${text} probable to be synthetic, ${line}`;
  }, 700);
}

function paintBand(i) {
  const { element, band, now, whole } = benches[i];
  const bar = $(".band", element);
  const shown = changed(i) && band && band.draws;
  bar.hidden = !shown;
  const said = $(".bandsaid", element);
  if (!shown) {
    said.textContent = changed(i)
      ? "Measuring what as many other maps of the same layers do …"
      : "Drop maps, and a band shows what as many others of the same layers would do.";
    return;
  }
  const left = parseFloat(place(band.low));
  bar.style.left = left + "%";
  bar.style.width = Math.max(0.6, parseFloat(place(band.high)) - left) + "%";
  const where = now.logit < band.low ? "below the band: these maps speak for fake more than others of their layers"
    : now.logit > band.high ? "above the band: these maps speak for real more than others of their layers"
    : "inside the band: as many others of these layers do as much";
  const ends = [percent(shareOf(band.low)), percent(shareOf(band.high))];
  const shares = ends[0] === ends[1] ? ends[0] : ends.join(" … ");
  said.textContent = `Band: of ${band.draws} random draws of as many maps of the same layers nine in ten lie in logit `
    + `${signed(band.low)} … ${signed(band.high)} (${shares}). The number is ${where}.`;
}

function isOff(i, row, list) {
  const own = state.benches[i];
  if (own.on.has(row.map)) return false;
  if (own.off.has(row.map)) return true;
  return own.by === list ? row.place <= own.k : row.other !== null && row.other <= own.k;
}

function paintSwitches(i) {
  const { element, lists } = benches[i];
  const own = state.benches[i];
  const bench = about.benches[i];
  $(".k", element).value = Math.max(0, bench.steps.findIndex((step) => step >= own.k));
  $(".k", element).setAttribute("aria-valuetext", `${own.k} feature maps`);
  $(".kshown", element).textContent = `${own.k.toLocaleString("en")} of ${bench.maps.toLocaleString("en")}`;
  $(".by", element).value = own.by;
  $(".value", element).value = own.value;
  const more = [];
  if (own.off.size) more.push(`${own.off.size} switched off by hand`);
  if (own.on.size) more.push(`${own.on.size} kept on by hand`);
  $(".switched", element).textContent = more.join(", ");
  if (!lists) return;
  for (const item of $$(".lists li", element)) {
    const off = isOff(i, item.row, item.list);
    item.classList.toggle("off", off);
    $(".toggle", item).checked = !off;
    $(".map", item).setAttribute("aria-expanded", own.map === item.row.map);
    const alone = (benches[i].changes || {})[item.row.map];
    $(".alone", item).textContent = alone === undefined ? "" : change(alone);
  }
}

function paintLists(i) {
  const { element, lists } = benches[i];
  const score = { omega: "ω" }[lists.by] || lists.by;
  $(".how", element).textContent = lists.how === "relevance"
    ? "share of their layer's relevance (LRP) for what the detector decided here"
    : "how far the logit is to fall without them, to first order: LRP refuses this network";
  $(".by-said", element).textContent = lists.ranking.length ? `by ${score}, over the set that was ranked on` : "no ranking is known for these weights";
  for (const list of ["image", "ranking"]) {
    const rows = lists[list];
    const most = Math.max(...rows.map((row) => row.score), 1e-12);
    $(`ol.${list}`, element).replaceChildren(...rows.map((row, at) => {
      row.place = at + 1;
      const words = mapWords(row.map);
      const other = list === "image" ? "in the ranking" : "in this image";
      const where = row.other === null ? "" : `, place ${row.other.toLocaleString("en")} ${other}`;
      const bar = node("span", { class: "bar", "aria-hidden": "true" });
      bar.style.width = `${Math.max(0, (100 * row.score) / most)}%`;
      const item = node("li", {},
        node("input", { type: "checkbox", role: "switch", class: "toggle", "aria-label": `${words.layer} ${words.channel} on` }),
        node("button", { type: "button", class: "map", "aria-expanded": "false" }, words.layer, " ", words.channel,
          node("small", {}, (row.score < 0.001 ? row.score.toExponential(1) : row.score.toPrecision(2)) + where), bar),
        node("span", { class: "alone", title: "change of the logit without this map alone" }));
      item.row = row;
      item.list = list;
      $(".toggle", item).addEventListener("change", () => toggle(i, item));
      $(".map", item).addEventListener("click", () => open(i, state.benches[i].map === row.map ? "" : row.map));
      return item;
    }));
  }
  paintSwitches(i);
}

function paintPicture(i, seen) {
  for (const image of $$(".under", benches[i].element)) image.src = seen.picture;
  for (const stack of $$(".stack", benches[i].element)) stack.style.aspectRatio = `${seen.size[0]} / ${seen.size[1]}`;
  if (i === 0) {
    const entry = about.images.find((one) => one.id === state.image) || { name: state.image };
    $("#picture").src = seen.picture;
    $("#picture").alt = `The image ${entry.name} as the detector sees it`;
    const known = entry.kind === "fake" && entry.generator ? `fake by ${entry.generator}` : entry.kind;
    const [width, height] = seen.size;
    const size = width === seen.of[0] && height === seen.of[1] ? `${width} × ${height} pixels`
      : `${width} × ${height} pixels seen, of ${seen.of[0]} × ${seen.of[1]}`;
    $("#facts").textContent = [entry.name, known, size].filter(Boolean).join(" · ");
  }
  paintOpacity();
}

function paintOpacity() {
  const share = state.opacity / 100;
  for (const stack of $$(".stack")) {
    const over = $(".over", stack);
    over.style.opacity = share;
    $(".under", stack).style.filter = over.getAttribute("src") ? `grayscale(${share}) brightness(${1 - 0.35 * share})` : "";
  }
  for (const slider of $$(".opacity")) {
    slider.value = state.opacity;
    slider.parentElement.querySelector("output").textContent = `${state.opacity} %`;
  }
}

function paintImage() {
  for (const name of SLIDERS) {
    const slider = $("#" + name);
    const value = state.conditions[name];
    slider.value = value === undefined ? slider.dataset.off : value;
    const text = value === undefined ? "as it was" : String(value);
    $(`output[for="${name}"]`).textContent = text;
    slider.setAttribute("aria-valuetext", text);
  }
  $("#grey").checked = "grey" in state.conditions;
  $("#asis").hidden = !Object.keys(state.conditions).length;
  for (const button of $$("#strip button")) button.setAttribute("aria-pressed", button.dataset.id === state.image);
}

function paintStrip() {
  $("#strip").replaceChildren(...about.images.map((one) => {
    const image = node("img", { src: "api/thumbnail?image=" + encodeURIComponent(one.id), alt: "", loading: "lazy", width: 58, height: 58 });
    const label = [one.name, one.kind, one.generator].filter(Boolean).join(", ");
    const button = node("button", { type: "button", "data-id": one.id, "aria-label": label, "aria-pressed": "false", title: label }, image);
    if (one.kind) button.append(node("span", { class: "kind", "aria-hidden": "true" }, one.kind));
    button.addEventListener("click", () => { state.image = one.id; look(); });
    return node("li", {}, button);
  }));
}

// ---- what is done ----

const dropping = {}; // of each bench: whether a question is under way, and whether to ask again
async function drop(i) {
  clearTimeout(benches[i].waiting); // a band that is asked now would make this out of date
  paintSwitches(i);
  toAddress();
  const one = (dropping[i] ||= { busy: false, again: false });
  if (one.busy) { one.again = true; return; }
  one.busy = true;
  do {
    one.again = false;
    benches[i].band = null;
    if (changed(i)) {
      const found = await ask("drop", i, masks(i), "drop");
      if (found) benches[i].now = found;
    }
    paintNumber(i);
    paintBand(i);
  } while (one.again);
  one.busy = false;
  clearTimeout(benches[i].waiting);
  if (changed(i)) benches[i].waiting = setTimeout(() => band(i), 350);
}

async function band(i) {
  const found = await ask("band", i, masks(i), "drop");
  if (!found) return;
  benches[i].band = found;
  paintBand(i);
}

function toggle(i, item) {
  const own = state.benches[i];
  const name = item.row.map;
  const off = isOff(i, item.row, item.list);
  const base = own.by === item.list ? item.row.place <= own.k : item.row.other !== null && item.row.other <= own.k;
  own.off.delete(name);
  own.on.delete(name);
  if (off && base) own.on.add(name);
  if (!off && !base) own.off.add(name);
  drop(i);
}

async function alone(i) {
  const { lists } = benches[i];
  if (!lists) return;
  const names = [...new Set([...lists.image, ...lists.ranking].map((row) => row.map))];
  benches[i].changes = {};
  for (let at = 0; at < names.length; at += 4) {
    const found = await ask("alone", i, { maps: names.slice(at, at + 4), value: state.benches[i].value });
    if (!found) return;
    Object.assign(benches[i].changes, found.changes);
    paintSwitches(i);
  }
}

async function explain(i, at) {
  const figure = $$(".explanations figure", benches[i].element)[at];
  const method = state.benches[i].methods[at];
  $("select", figure).value = method;
  figure.classList.add("busy");
  figure.setAttribute("aria-busy", "true");
  const found = await ask("explain", i, { method }, "explain" + at);
  if (!found) return;
  figure.classList.remove("busy");
  figure.removeAttribute("aria-busy");
  const over = $(".over", figure);
  if (found.heat) over.src = found.heat;
  else over.removeAttribute("src");
  over.alt = found.heat ? `Heat of ${method}: ${found.caption}` : "";
  $("figcaption", figure).textContent = found.caption || `Does not apply: ${found.reason}`;
  paintOpacity();
}

async function open(i, name) {
  state.benches[i].map = name;
  toAddress();
  paintSwitches(i);
  const { element } = benches[i];
  const detail = $(".detail", element);
  detail.hidden = !name;
  if (!name) return;
  const words = mapWords(name);
  $(".mapname", detail).textContent = `${words.layer} ${words.channel}`;
  $(".plot", detail).replaceChildren();
  $(".patches", detail).replaceChildren();
  $(".spread figcaption", detail).textContent = "Looking through the images …";
  $(".patchsaid", detail).textContent = "";
  const here = await ask("map", i, { map: name });
  if (!here) return;
  const over = $(".here .over", detail);
  over.src = here.heat;
  over.alt = `Where ${name} responds in this image`;
  $(".here figcaption", detail).textContent =
    `Where it responds in this image, ${here.size[0]} × ${here.size[1]} places, from its median to its largest value, ${here.maximum.toPrecision(3)}.`;
  paintOpacity();
  const study = await ask("study", i, { map: name });
  if (!study) return;
  if (study.of) {
    $(".plot", detail).replaceChildren(plot(study.maxima, here.maximum));
    const rgb = median(study.maxima.rgb), grey = median(study.maxima.grey);
    $(".spread figcaption", detail).textContent =
      `Its largest value in ${study.of}: in colour (solid, median ${rgb.toPrecision(3)}) and in grey (dashed, ${grey.toPrecision(3)}). `
      + "A map whose two curves differ looks at colour.";
  } else $(".spread figcaption", detail).textContent = "There are no images to look through.";
  $(".patches", detail).replaceChildren(...study.patches.map((one) => node("li", {},
    one.picture ? node("img", { src: one.picture, alt: `Patch of ${one.name}` }) : "",
    one.picture ? `${one.size[0]} × ${one.size[1]} px, ${one.of || one.name}, ${one.maximum.toPrecision(3)}` : `${one.of}: ${one.note}`)));
  $(".patchsaid", detail).textContent = study.why || (study.patches.length
    ? "LRP-max patches: of the images where its largest value is highest, the part that positive relevance comes from." : "");
}

async function lookAt(i) {
  const one = benches[i];
  // Answers about the image before are not for this one.
  for (const lane of ["drop", "maps", "alone", "explain0", "explain1", "map", "study"]) newest[`${lane}/${i}`] = ++numbers;
  one.now = one.band = one.changes = null;
  const seen = await ask("see", i, {}, "see");
  if (!seen) return;
  one.whole = seen;
  say("");
  paintPicture(i, seen);
  paintNumber(i);
  paintBand(i);
  paintSwitches(i);
  if (changed(i)) await drop(i);
  const lists = await ask("maps", i);
  if (!lists) return;
  for (const row of [...lists.image, ...lists.ranking]) row.other ??= null;
  one.lists = lists;
  paintLists(i);
  await Promise.all([explain(i, 0), explain(i, 1)]);
  alone(i);
  if (state.benches[i].map) open(i, state.benches[i].map);
}

function look() {
  toAddress();
  paintImage();
  benches.forEach((_, i) => lookAt(i));
}

async function upload(file) {
  if (!file) return;
  if (file.size > about.upload) { say(`${file.name}: larger than ${Math.floor(about.upload / 2 ** 20)} MB`); return; }
  say(`Reading ${file.name} …`);
  const answer = await fetch("api/upload?name=" + encodeURIComponent(file.name), { method: "POST", body: file }).catch(() => null);
  const found = answer ? await answer.json().catch(() => ({})) : {};
  if (!answer || !answer.ok) { say(found.error || "the file could not be sent"); return; }
  about = await (await fetch("api/about")).json();
  paintStrip();
  say("");
  state.image = found.id;
  look();
}

async function exportPage() {
  const button = $("#export");
  button.disabled = true;
  say("Computing what the page needs to move without this program …");
  const wanted = state.benches.map((own, i) => ({ ...masks(i), methods: own.methods, map: own.map }));
  const answer = await fetch("api/export", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ image: state.image, conditions: state.conditions, opacity: state.opacity, benches: wanted }),
  }).catch(() => null);
  button.disabled = false;
  if (!answer || !answer.ok) {
    const found = answer ? await answer.json().catch(() => ({})) : {};
    say(found.error || "the page could not be made");
    return;
  }
  const entry = about.images.find((one) => one.id === state.image) || { name: "image" };
  const link = node("a", { href: URL.createObjectURL(await answer.blob()),
    download: `forensift-${about.benches.map((one) => one.name).join("-")}-${entry.name}.html`.replace(/[^\w.-]+/g, "-") });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say("Saved as one file that opens without a network.");
}

// ---- begin ----

function makeBench(bench, i) {
  const element = $("#bench").content.firstElementChild.cloneNode(true);
  const one = { element, by: bench.ranking ? "ranking" : "image" };
  benches.push(one);
  element.setAttribute("aria-label", bench.name);
  $(".name", element).textContent = bench.name;
  $(".network", element).textContent =
    `${bench.maps.toLocaleString("en")} feature maps in ${bench.layers} layers, preset ${bench.preset}`;
  for (const [name, text] of [["ranking", "the ranking"], ["image", "this image"]]) {
    $(".by", element).append(node("option", { value: name, disabled: name === "ranking" && !bench.ranking }, text));
  }
  for (const value of bench.values) $(".value", element).append(node("option", { value }, value === "zero" ? "zero" : "photographs’ mean"));
  $(".ticks", element).replaceChildren(...TICKS.map((p) => {
    const tick = node("span", {}, `${+(100 * p).toFixed(1)} %`);
    tick.style.left = place(logitOf(p));
    return tick;
  }));
  const slider = $(".k", element);
  slider.id = `k${i}`;
  slider.max = bench.steps.length - 1;
  $(".klabel", element).htmlFor = slider.id;
  const opacity = $(".opacity", element);
  opacity.id = `opacity${i}`;
  $(".olabel", element).htmlFor = opacity.id;
  slider.addEventListener("input", () => { state.benches[i].k = bench.steps[slider.value]; drop(i); });
  $(".by", element).addEventListener("change", (event) => { state.benches[i].by = event.target.value; drop(i); });
  $(".value", element).addEventListener("change", (event) => { state.benches[i].value = event.target.value; drop(i); alone(i); });
  $(".reset", element).addEventListener("click", () => {
    Object.assign(state.benches[i], { k: 0, off: new Set(), on: new Set() });
    drop(i);
  });
  $(".close", element).addEventListener("click", () => {
    const name = state.benches[i].map;
    open(i, "");
    const from = $$(".lists li", element).find((item) => item.row.map === name);
    if (from) $(".map", from).focus();
  });
  opacity.addEventListener("input", () => { state.opacity = Number(opacity.value); paintOpacity(); toAddress(); });
  $$(".method", element).forEach((select, at) => {
    for (const method of about.methods) select.append(node("option", { value: method.name, title: method.source }, method.name));
    select.addEventListener("change", () => { state.benches[i].methods[at] = select.value; toAddress(); explain(i, at); });
  });
  $("#benches").append(element);
  ask("methods", i).then((found) => {
    for (const option of found ? $$(".method option", element) : []) {
      const why = found.notes[option.value];
      if (why) { option.disabled = true; option.title = why; option.textContent = `${option.value} (does not apply)`; }
    }
  });
}

function listen() {
  for (const name of SLIDERS) {
    const slider = $("#" + name);
    slider.addEventListener("input", () => {
      if (slider.value === slider.dataset.off) delete state.conditions[name];
      else state.conditions[name] = Number(slider.value);
      paintImage();
      clearTimeout(slider.waiting);
      slider.waiting = setTimeout(look, 80);
    });
  }
  $("#grey").addEventListener("change", (event) => {
    if (event.target.checked) state.conditions.grey = 1;
    else delete state.conditions.grey;
    look();
  });
  $("#asis").addEventListener("click", () => { state.conditions = {}; look(); $("#jpeg").focus(); });
  $("#file").addEventListener("change", (event) => { upload(event.target.files[0]); event.target.value = ""; });
  $("#export").addEventListener("click", exportPage);
  $("#copy").addEventListener("click", () => {
    navigator.clipboard.writeText(location.href).then(
      () => say("The address is copied: it brings back what is seen now, in this browser while forensift explore runs."),
      () => say("Copy it from the browser's address bar: it holds what is seen now."));
  });
  window.addEventListener("hashchange", () => { fromAddress(); look(); });
  const over = (on) => $("#drop").classList.toggle("over-drop", on);
  window.addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  window.addEventListener("dragleave", () => over(false));
  window.addEventListener("drop", (event) => { event.preventDefault(); over(false); upload(event.dataTransfer.files[0]); });
  window.addEventListener("paste", (event) => upload(event.clipboardData && event.clipboardData.files[0]));
}

async function begin() {
  const answer = await fetch("api/about");
  if (!answer.ok) { say("The token is missing: open the address that forensift explore printed."); return; }
  about = await answer.json();
  const names = about.benches.map((one) => one.name).join(" and ");
  $("#who").textContent = `What ${about.benches.length > 1 ? "do" : "does"} ${names} look at?`;
  document.title = `${about.benches.map((one) => one.name).join(", ")} · forensift explore`;
  $("#benches").classList.toggle("one", about.benches.length === 1);
  about.benches.forEach(makeBench);
  fromAddress();
  paintStrip();
  listen();
  look();
}

begin();
