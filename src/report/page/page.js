"use strict";
const all = (what, within = document) => [...within.querySelectorAll(what)];

// Light or dark: as the system has it, until somebody chooses.
const root = document.documentElement;
const kept = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
if (kept()) root.dataset.theme = kept();
document.querySelector(".theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* not kept, then */ }
});

// Cells are compared as numbers where they begin with one, else as words.
const value = (cell) => {
  const found = cell.replaceAll(",", "").replace("−", "-").match(/^[-+]?\d+(\.\d+)?(e[-+]?\d+)?/i);
  return found ? Number(found[0]) : null;
};
const compare = (a, b) => {
  const [x, y] = [value(a), value(b)];
  if (x !== null && y !== null) return x - y;
  if ((x === null) !== (y === null)) return x === null ? 1 : -1;
  return a.localeCompare(b);
};
const text = (cell) => cell.textContent.trim();
const quoted = (cell) => {
  const safe = /^[=@\t]/.test(cell) || (/^[-+]/.test(cell) && value(cell) === null) ? `'${cell}` : cell;
  return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

for (const box of all(".table")) {
  const table = box.querySelector("table"), body = table.tBodies[0], rows = [...body.rows];
  const filter = box.querySelector("input"), more = box.querySelector(".unfold");
  let folded = Number(box.dataset.folded || 0);
  const show = () => {
    const words = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const row of body.rows) {
      const fits = !words || row.textContent.toLowerCase().includes(words);
      row.hidden = !fits || (!words && folded > 0 && shown >= folded);
      shown += fits;
    }
    if (more) more.hidden = Boolean(words);
  };
  filter.addEventListener("input", show);
  if (more) more.addEventListener("click", () => {
    folded = folded ? 0 : Number(box.dataset.folded);
    more.textContent = folded ? `Show all ${rows.length} rows` : "Show fewer rows";
    more.setAttribute("aria-expanded", String(!folded));
    show();
  });
  all("thead button", table).forEach((button, at) => button.addEventListener("click", () => {
    const head = button.parentElement, was = head.getAttribute("aria-sort");
    all("thead th", table).forEach((one) => one.removeAttribute("aria-sort"));
    if (was === "descending") { body.append(...rows); show(); return; }  // as it was, the third time
    const way = was === "ascending" ? -1 : 1;
    head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    const empty = (row) => text(row.cells[at]) === "";
    body.append(...[...rows].sort((a, b) => empty(a) - empty(b) || way * compare(text(a.cells[at]), text(b.cells[at]))));
    show();
  }));
  const status = box.querySelector("[role=status]");
  box.querySelector(".copy").addEventListener("click", async () => {
    const kept = filter.value.trim() ? [...body.rows].filter((row) => !row.hidden) : [...body.rows];
    const lines = [all("thead th", table), ...kept.map((row) => [...row.cells])];
    const csv = lines.map((cells) => cells.map((cell) => quoted(text(cell))).join(",")).join("\n") + "\n";
    try { await navigator.clipboard.writeText(csv); } catch {
      const area = Object.assign(document.createElement("textarea"), { value: csv });
      document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
    }
    status.textContent = `${kept.length} rows copied`;
  });
  show();
}

// A figure, large: once more on it shows it twice as wide, to be scrolled.
const large = document.querySelector(".large"), picture = large.querySelector("img");
for (const button of all(".zoom")) button.addEventListener("click", () => {
  const small = button.querySelector("img");
  Object.assign(picture, { src: small.src, alt: small.alt, className: "" });
  large.querySelector("p").textContent = button.parentElement.querySelector("figcaption")?.textContent ?? "";
  large.showModal();
});
picture.addEventListener("click", () => picture.classList.toggle("whole"));
large.querySelector(".close").addEventListener("click", () => large.close());
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });

// Where the reader is, in the contents.
const links = new Map(all("nav a").map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) {
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "0px 0px -70% 0px" });
all("main section, main h2").forEach((one) => seen.observe(one));
const contents = document.querySelector("nav details");
if (matchMedia("(max-width: 60rem)").matches) contents.open = false;

// All rows and facts go to paper.
addEventListener("beforeprint", () => { all("tr[hidden]").forEach((row) => { row.hidden = false; }); all("details").forEach((one) => { one.open = true; }); });
