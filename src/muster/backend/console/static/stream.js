// One live stream of a run. Closed while the tab is hidden (six open streams block a browser on HTTP/1.1), made anew
// after a 502 or 503 (which closes an EventSource for good) and when a connection only looks open.

const TICK_MS = 250;
const now = () => performance.now();

/**
 * Follows `url` until the page goes. `on.snapshot(body)` and `on.delta(body)` get what the server sends, `on.time(ms)`
 * its clock, `on.state(state, ageMs)` one of "connecting", "live", "stale" whenever it changes, and "stale" with its age.
 */
export function follow(url, staleMs, on) {
  let source = null;
  let lastId = "";
  let heardAt = now();
  let openedAt = 0;
  let judgedFrom = now() + staleMs;
  let failures = 0;
  let retry = 0;
  let state = "";

  function report(next, ageMs = 0) {
    if (next !== state || next === "stale") on.state((state = next), ageMs);
  }

  function heard(event, deliver) {
    heardAt = now();
    failures = 0;
    if (event.lastEventId) lastId = event.lastEventId;
    const body = JSON.parse(event.data);
    on.time(body.now);
    deliver?.(body);
    report("live");
  }

  function open() {
    close();
    if (document.hidden) return;
    openedAt = now();
    source = new EventSource(lastId ? `${url}?resume=${encodeURIComponent(lastId)}` : url);
    source.addEventListener("snapshot", (event) => heard(event, on.snapshot));
    source.addEventListener("delta", (event) => heard(event, on.delta));
    source.addEventListener("heartbeat", (event) => heard(event));
    source.addEventListener("error", () => {
      if (source?.readyState === EventSource.CLOSED) later();
    });
  }

  function close() {
    clearTimeout(retry);
    source?.close();
    source = null;
  }

  /** With jitter, so that a restarted backend is not met by all its viewers in one instant. */
  function later() {
    close();
    failures += 1;
    retry = setTimeout(open, Math.min(250 * 2 ** failures, 5000) * (0.5 + Math.random()));
  }

  function tick() {
    if (document.hidden || now() < judgedFrom) return;
    const age = now() - heardAt;
    if (age > staleMs) report("stale", age);
    const looksOpen = source?.readyState === EventSource.OPEN;
    if (looksOpen && age > 2 * staleMs && now() - openedAt > 2 * staleMs) later();
  }

  function seen() {
    judgedFrom = now() + 1000;
    report("connecting");
    open();
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : seen()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && seen());
  setInterval(tick, TICK_MS);
  report("connecting");
  open();
}

/** Shows on the whole page that the data is old, with its age; takes it away by itself. */
export function staleBanner(text) {
  const banner = document.getElementById("stale");
  return (ageMs) => {
    const stale = ageMs > 0;
    document.documentElement.classList.toggle("stale", stale);
    if (banner.hidden === stale) banner.hidden = !stale;
    if (stale) banner.lastElementChild.textContent = text(ageMs);
  };
}
