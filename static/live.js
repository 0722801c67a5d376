// Keeps a page as the server has it: progress is written as it comes, and whatever carries `data-live` and an id is read again
// once something has happened. The page itself is never reloaded, so that nothing that somebody types is lost.
(() => {
  "use strict";
  // A page that takes long is not asked for all the time.
  const REST = 5;
  const SHORTEST_MS = 300;
  let stream = null;
  let timer = null;
  let rest = SHORTEST_MS;

  const regions = () => [...document.querySelectorAll("[data-live][id], #result_list")];
  const isBusy = (region) =>
    region.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox]), select, textarea");

  // A log that is followed is, and one that is read stays where it is.
  const isAtEnd = (part) => part.scrollTop + part.clientHeight >= part.scrollHeight - 4;

  function put(region, fresh) {
    const chosen = new Set([...region.querySelectorAll("input.action-select:checked")].map((box) => box.value));
    const opened = [...region.querySelectorAll("details[open][id]")].map((part) => part.id);
    const scrolled = [...region.querySelectorAll("[data-scrolls]")].map((part) => [part.id, isAtEnd(part) ? null : part.scrollTop]);
    const focused = document.activeElement && region.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const focusedId = document.activeElement && region.contains(document.activeElement) ? document.activeElement.id : "";
    region.replaceWith(fresh);
    fresh.querySelectorAll("input.action-select").forEach((box) => { box.checked = chosen.has(box.value); });
    opened.forEach((id) => fresh.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", ""));
    scrolled.forEach(([id, top]) => { const part = document.getElementById(id); if (part) part.scrollTop = top ?? part.scrollHeight; });
    if (focusedId) document.getElementById(focusedId)?.focus({ preventScroll: true });
    if (focused) fresh.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    if (window.htmx) window.htmx.process(fresh);
    document.dispatchEvent(new CustomEvent("live:fresh", { detail: fresh }));
  }

  async function readAgain() {
    timer = null;
    const begun = performance.now();
    try {
      const answer = await fetch(location.href, { headers: { "X-Live": "1" }, credentials: "same-origin", redirect: "manual" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const region of regions()) {
        const fresh = page.getElementById(region.id);
        if (fresh && !isBusy(region) && fresh.innerHTML !== region.innerHTML) put(region, document.adoptNode(fresh));
      }
    } catch {
      // The server is away; the stream tells when it is back.
    } finally {
      rest = Math.max(SHORTEST_MS, REST * (performance.now() - begun));
    }
  }

  function lookSoon() {
    if (timer === null && regions().length) timer = setTimeout(readAgain, lookSoon.last && Date.now() - lookSoon.last < rest ? rest : 50);
    lookSoon.last = Date.now();
  }

  function size(bytes) {
    const units = ["bytes", "KB", "MB", "GB", "TB", "PB"];
    let value = bytes;
    let unit = 0;
    while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
    return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
  }

  window.sizeText = size;

  function show(said) {
    if (!said.record) return;
    if (said.has_news && document.querySelector(`[data-follows="${said.record.kind}-${said.record.id}"]`)) lookSoon();
    const job = document.querySelector(`[data-job="${said.record.kind}-${said.record.id}"]`);
    const progress = said.progress;
    if (!job || !progress || said.state !== 2 || !progress.files_done) { lookSoon(); return; }
    const bar = job.querySelector("progress");
    const [done, total] = progress.bytes_total ? [progress.bytes_done, progress.bytes_total] : [progress.files_done, progress.files_total];
    if (bar && total) bar.value = Math.min(100, (100 * done) / total);
    const figures = job.querySelector("[data-figures]");
    if (figures) {
      const parts = [`${size(progress.bytes_done || 0)} / ${progress.bytes_total ? size(progress.bytes_total) : "-"}`,
        `${progress.files_done || 0} / ${progress.files_total || "?"}`];
      if (progress.rate) parts.push(`${size(progress.rate)}/s`);
      if (progress.eta_s !== null && progress.eta_s !== undefined) parts.push(`${Math.round(progress.eta_s)} s`);
      figures.textContent = parts.join(" · ");
    }
    const current = job.querySelector("[data-current]");
    if (current) current.textContent = progress.current || "";
    document.dispatchEvent(new CustomEvent("live:progress", { detail: { job: job.dataset.job, progress, time: said.time } }));
  }

  function listen() {
    if (stream || document.hidden || !regions().length) return;
    stream = new EventSource("/api/event");
    let isFirst = true;
    stream.addEventListener("stream-open", () => {
      // What happened while nobody listened.
      if (!isFirst) lookSoon();
      isFirst = false;
    });
    stream.addEventListener("stream-reset", lookSoon);
    stream.addEventListener("progress", (event) => show(JSON.parse(event.data)));
    stream.onmessage = lookSoon;
  }

  // A browser keeps six connections to a server at most, and each tab would hold one.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { stream?.close(); stream = null; } else { listen(); lookSoon(); }
  });
  window.addEventListener("pagehide", () => { stream?.close(); stream = null; });
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-scrolls]").forEach((part) => { part.scrollTop = part.scrollHeight; });
    listen();
  });
})();

// A list whose entries are places to go to.
document.addEventListener("change", (event) => {
  if (event.target.matches("select[data-goes-to]")) location.assign(event.target.value);
});
