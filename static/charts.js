// Draws each `[data-chart]` from the table in it, so that who sees no chart reads the same figures: a column with `data-series` is a
// line, its cells' `data-value` the points, and the rows' `data-x` (or first cells) where they stand.
(() => {
  "use strict";
  const drawn = new Map();
  const language = document.documentElement.lang || "en";

  const units = {
    bytes: (value) => window.sizeText(value),
    rate: (value) => `${window.sizeText(value)}/s`,
    ratio: (value) => `${value.toLocaleString(language, { maximumFractionDigits: 1 })} : 1`,
  };

  function clock(seconds) {
    const whole = Math.round(seconds);
    const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    const two = (number) => String(number).padStart(2, "0");
    return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
  }

  function read(figure) {
    const rows = [...figure.querySelectorAll("tbody tr")];
    const heads = [...figure.querySelectorAll("thead th")];
    const isTime = figure.dataset.x === "seconds";
    const labels = rows.map((row) => row.cells[0].textContent.trim());
    const lines = heads.flatMap((head, column) => head.dataset.series === undefined ? [] : [{
      label: head.textContent.trim(),
      data: rows.map((row, number) => {
        const value = row.cells[column].dataset.value;
        const y = value === undefined || value === "" ? null : Number(value);
        return isTime ? { x: Number(row.dataset.x), y } : y;
      }),
    }]);
    return { labels: isTime ? undefined : labels, lines, isTime };
  }

  // Bytes are told in powers of 1024, so that round numbers of theirs are powers of two.
  function stepOf(figure, lines) {
    const most = Math.max(1, ...lines.flatMap((line) => line.data.map((point) => point?.y ?? point ?? 0)));
    return figure.dataset.unit === "ratio" ? undefined : 2 ** Math.ceil(Math.log2(most / 4));
  }

  function draw(figure) {
    if (typeof Chart === "undefined") return;
    drawn.get(figure)?.destroy();
    const style = getComputedStyle(figure);
    const [text, grid] = [style.color, style.getPropertyValue("--chart-grid")];
    const { labels, lines, isTime } = read(figure);
    const format = units[figure.dataset.unit];
    const datasets = lines.map((line, number) => {
      const colour = style.getPropertyValue(`--chart-${number + 1}`).trim();
      // Not by colour alone.
      // A line of one point would not be seen.
      const pointRadius = line.data.filter((value) => value !== null).length > 1 ? 0 : 4;
      return { ...line, borderColor: colour, backgroundColor: colour, borderDash: number ? [6, 3] : [], borderWidth: 2, pointRadius,
        pointHitRadius: 12, spanGaps: true, tension: 0 };
    });
    const ticks = { color: text, maxRotation: 0, autoSkipPadding: 16 };
    const x = isTime ? { type: "linear", min: 0, bounds: "data", ticks: { ...ticks, includeBounds: false, callback: clock } } : { ticks };
    drawn.set(figure, new Chart(figure.querySelector("canvas"), {
      type: "line",
      data: { labels, datasets },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, interaction: { mode: "index", intersect: false },
        scales: {
          x: { ...x, grid: { display: false } },
          y: { beginAtZero: true, ticks: { color: text, callback: format, maxTicksLimit: 6, stepSize: stepOf(figure, lines) }, grid: { color: grid } },
        },
        plugins: {
          legend: { labels: { color: text, boxWidth: 24, boxHeight: 0 } },
          tooltip: { callbacks: {
            title: (items) => isTime ? clock(items[0].parsed.x) : items[0].label,
            label: (item) => `${item.dataset.label}: ${format(item.parsed.y)}`,
          } },
        },
      },
    }));
  }

  function drawAll(within) {
    for (const [figure, chart] of drawn) if (!figure.isConnected) { chart.destroy(); drawn.delete(figure); }
    within.querySelectorAll("[data-chart]").forEach(draw);
  }

  document.addEventListener("DOMContentLoaded", () => {
    drawAll(document);
    new MutationObserver(() => drawAll(document)).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
  });
  document.addEventListener("live:fresh", (event) => drawAll(event.detail));
  // Between two readings of the page the curve grows by what is told of the progress.
  document.addEventListener("live:progress", (event) => {
    const { job, progress, time } = event.detail;
    const figure = document.querySelector(`[data-job-curve="${job}"]`);
    const chart = drawn.get(figure);
    if (!chart || typeof progress.rate !== "number") return;
    chart.data.datasets[0].data.push({ x: Math.max(0, time - Number(figure.dataset.started)), y: progress.rate });
    chart.update();
  });
})();
