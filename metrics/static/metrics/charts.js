// Charts of a report page, drawn by unfold's Chart.js from the data in the page, and its form.
const COLOURS = ["#7c3aed", "#0891b2", "#d97706", "#16a34a", "#db2777", "#2563eb", "#84cc16", "#9ca3af"];
const DASHES = [[], [6, 4], [2, 3]];

const FORMATS = {
  count: (value) => value.toLocaleString("en", { maximumFractionDigits: 0 }),
  usd: (value) => "$" + value.toLocaleString("en", value && value < 1 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 2 }),
  ms: (value) => (value < 1000 ? `${+value.toPrecision(3)} ms` : `${+(value / 1000).toPrecision(3)} s`),
  GiB: (value) => `${+value.toFixed(2)} GiB`,
};

function dataset(chart, series, place) {
  const colour = series.line ? "#6b7280" : COLOURS[(series.colour ?? place) % COLOURS.length];
  const isLine = series.line || chart.kind !== "bar";
  return {
    type: isLine ? "line" : "bar",
    label: series.name,
    level: series.level ?? 0,
    detail: series.detail ? ` ${series.detail}` : "",
    data: series.values,
    backgroundColor: chart.kind === "area" ? colour + "99" : colour,
    borderColor: colour,
    borderWidth: isLine ? 2 : 0,
    borderDash: DASHES[series.line ? 1 : (series.level ?? 0)],
    fill: chart.kind === "area",
    stack: series.line ? "before" : "now",
    order: series.line ? 0 : 1,
    pointRadius: series.values.length > 1 ? 0 : 3,
    pointHitRadius: 8,
  };
}

// The lines of a name, which are its percentiles, come and go together.
function toggle(chart, name) {
  chart.data.datasets.forEach(({ label }, place) => {
    if (label === name) chart.setDatasetVisibility(place, !chart.isDatasetVisible(place));
  });
  chart.update();
}

function draw(canvas, chart) {
  const format = FORMATS[chart.unit];
  const isStacked = chart.kind !== "line";
  return new Chart(canvas, {
    data: { labels: chart.labels, datasets: chart.series.map((series, place) => dataset(chart, series, place)) },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { stacked: isStacked, grid: { display: false }, ticks: { maxRotation: 0, autoSkipPadding: 12 } },
        y: { stacked: isStacked, beginAtZero: true, ticks: { callback: format, maxTicksLimit: 6, precision: chart.unit === "count" ? 0 : undefined } },
      },
      plugins: {
        legend: {
          position: "bottom",
          onClick: (_, item, legend) => toggle(legend.chart, item.text),
          labels: { boxWidth: 12, boxHeight: 12, filter: (item, { datasets }) => !datasets[item.datasetIndex].level },
        },
        tooltip: { callbacks: { label: ({ dataset, parsed }) => `${dataset.label}${dataset.detail}: ${format(parsed.y)}` } },
      },
    },
  });
}

const data = JSON.parse(document.getElementById("charts")?.textContent ?? "[]");
const charts = [...document.querySelectorAll("canvas[data-chart]")].map((canvas) =>
  draw(canvas, data[canvas.dataset.chart.split("-")[1] - 1]),
);

function paint(isPrinted = false) {
  const isDark = !isPrinted && document.documentElement.classList.contains("dark");
  for (const chart of charts) {
    chart.options.color = chart.options.scales.x.ticks.color = chart.options.scales.y.ticks.color = isDark ? "#d1d5db" : "#4b5563";
    chart.options.scales.y.grid.color = isDark ? "#374151" : "#e5e7eb";
    chart.update();
  }
}
paint();
new MutationObserver(() => paint()).observe(document.documentElement, { attributeFilter: ["class"] });
addEventListener("beforeprint", () => {
  charts.forEach((chart) => chart.resize(640, 260));
  paint(true);
});
addEventListener("afterprint", () => {
  charts.forEach((chart) => chart.resize());
  paint();
});

const form = document.getElementById("report-form");
document.getElementById("print-report").addEventListener("click", () => print());
form.last.addEventListener("change", () => { if (form.last.value) form.from.value = form.to.value = ""; });
for (const field of [form.from, form.to]) field.addEventListener("change", () => { form.last.value = ""; });
document.getElementById("time-zones").append(...(Intl.supportedValuesOf?.("timeZone") ?? []).map((zone) => new Option(zone)));
