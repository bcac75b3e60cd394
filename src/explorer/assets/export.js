// Follows plot.js.
const REACH = 8;
const data = JSON.parse(document.getElementById("data").textContent);
const place = (logit) => (100 * (Math.min(REACH, Math.max(-REACH, logit)) + REACH)) / (2 * REACH);
const signed = (x) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(2);
function percent(logit) {
  const p = 1 / (1 + Math.exp(-logit));
  return p > 0.999 ? ">\u00a099.9\u00a0%" : p < 0.001 ? "<\u00a00.1\u00a0%" : (100 * p).toFixed(1) + "\u00a0%";
}
for (const dot of document.querySelectorAll(".track [data-logit]")) dot.style.left = place(Number(dot.dataset.logit)) + "%";
for (const band of document.querySelectorAll(".track .band")) {
  band.style.left = place(Number(band.dataset.low)) + "%";
  band.style.width = Math.max(0.6, place(Number(band.dataset.high)) - place(Number(band.dataset.low))) + "%";
}
for (const stack of document.querySelectorAll(".stack")) stack.style.aspectRatio = stack.dataset.size;
document.querySelectorAll(".bench").forEach((bench, at) => {
  const { grid, whole, opened } = data.benches[at];
  if (opened && opened.of) bench.querySelector(".plot").replaceChildren(plot(opened.maxima, opened.maximum));
  const show = (logit, what) => {
    bench.querySelector(".probability").textContent = percent(logit);
    bench.querySelector(".now").style.left = place(logit) + "%";
    bench.querySelector(".logit").textContent = `logit ${signed(logit)} ${what}; of the whole network ${signed(whole.logit)} (${percent(whole.logit)})`;
    const band = bench.querySelector(".track .band");
    if (band) band.hidden = true; // it is of what was dropped when the page was saved
  };
  const slider = bench.querySelector(".k");
  const buttons = [...bench.querySelectorAll(".map")];
  slider.addEventListener("input", () => {
    const { k, logit } = grid[slider.value];
    bench.querySelector("output[for^=k]").textContent = k;
    slider.setAttribute("aria-valuetext", `${k} feature maps`);
    buttons.forEach((one) => one.setAttribute("aria-pressed", "false"));
    show(logit, k ? `without ${k} feature maps` : "with all feature maps");
  });
  for (const button of buttons) button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") === "true";
    buttons.forEach((one) => one.setAttribute("aria-pressed", "false"));
    button.setAttribute("aria-pressed", String(!on));
    slider.value = 0;
    bench.querySelector("output[for^=k]").textContent = "0";
    show(on ? whole.logit : Number(button.dataset.logit), on ? "with all feature maps" : `without ${button.textContent} alone`);
  });
  const opacity = bench.querySelector(".opacity");
  const fade = () => {
    const share = opacity.value / 100;
    opacity.parentElement.querySelector("output").textContent = opacity.value + " %";
    for (const stack of bench.querySelectorAll(".stack")) {
      const over = stack.querySelector(".over");
      if (over) over.style.opacity = share;
      stack.querySelector(".under").style.filter = over ? `grayscale(${share}) brightness(${1 - 0.35 * share})` : "";
    }
  };
  opacity.addEventListener("input", fade);
  fade();
});
