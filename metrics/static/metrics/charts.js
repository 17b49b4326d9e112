// Charts of a report page, drawn by unfold's Chart.js from the data in the page, and its form.
const COLOURS = ["#7c3aed", "#0891b2", "#d97706", "#16a34a", "#db2777", "#2563eb", "#84cc16", "#9ca3af"];
const DASHES = { p95: [6, 4], p99: [2, 3], previous: [6, 4] };

const FORMATS = {
  count: (value) => value.toLocaleString("en", { maximumFractionDigits: 0 }),
  usd: (value) => "$" + value.toLocaleString("en", value && value < 1 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 2 }),
  ms: (value) => (value < 1000 ? `${+value.toPrecision(3)} ms` : `${+(value / 1000).toPrecision(3)} s`),
  GiB: (value) => `${+value.toFixed(2)} GiB`,
};

// Bars, and lines over them: percentiles, or the previous period.
function dataset({ name, detail, colour, values }) {
  const shade = detail === "previous" ? "#6b7280" : COLOURS[colour];
  return {
    type: detail ? "line" : "bar",
    label: name,
    detail,
    data: values,
    backgroundColor: shade,
    borderColor: shade,
    borderWidth: detail ? 2 : 0,
    borderDash: DASHES[detail] ?? [],
    stack: detail ? name + detail : "bars",
    // Narrow bars have no gaps between them, which would look like stripes.
    barPercentage: values.length > 60 ? 1 : 0.9,
    categoryPercentage: 1,
    pointBorderWidth: 0,
    pointRadius: 1,
    pointHitRadius: 8,
  };
}

// The lines of a name, which are its percentiles, come and go together.
function toggle(_, { text }, { chart }) {
  for (const [place, { label }] of chart.data.datasets.entries()) {
    if (label === text) chart.setDatasetVisibility(place, !chart.isDatasetVisible(place));
  }
  chart.update();
}

function draw(canvas, { labels, series, unit }) {
  const format = FORMATS[unit];
  return new Chart(canvas, {
    data: { labels, datasets: series.map(dataset) },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { stacked: true, grid: { display: false }, ticks: { maxRotation: 0, autoSkipPadding: 12 } },
        y: { stacked: true, beginAtZero: true, ticks: { callback: format, maxTicksLimit: 6, precision: unit === "count" ? 0 : undefined } },
      },
      plugins: {
        legend: {
          position: "bottom",
          onClick: toggle,
          labels: { boxWidth: 12, boxHeight: 12, filter: (item, { datasets }) => !["p95", "p99"].includes(datasets[item.datasetIndex].detail) },
        },
        tooltip: { callbacks: { label: ({ dataset: { label, detail }, parsed }) => `${[...new Set([label, detail])].join(" ").trim()}: ${format(parsed.y)}` } },
      },
    },
  });
}

// Greys that can be read on unfold's light and dark pages, and on paper.
Chart.defaults.color = "#7b8494";
Chart.defaults.borderColor = "#80808040";
const data = JSON.parse(document.getElementById("charts")?.textContent ?? "[]");
const charts = [...document.querySelectorAll("canvas[data-chart]")].map((canvas) => draw(canvas, data[canvas.dataset.chart]));
addEventListener("beforeprint", () => charts.forEach((chart) => chart.resize(570, 250)));
addEventListener("afterprint", () => charts.forEach((chart) => chart.resize()));

// A range is either the last days, or dates.
const form = document.getElementById("report-form");
form.last.addEventListener("change", () => { form.from.value = form.to.value = ""; });
for (const field of [form.from, form.to]) field.addEventListener("change", () => { form.last.value = ""; });
