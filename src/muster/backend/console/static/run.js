// The Run Monitor: ties the stream, the wall, the filters in the address and the chosen phone together.

import { bindKey, duration, everySecond, say, setText, texts } from "./page.js";
import { PhonePane } from "./phone.js";
import { rove } from "./roving.js";
import { StopButton } from "./stop.js";
import { follow, staleBanner } from "./stream.js";
import { drawBar, finishedOf, Wall } from "./wall.js";

const SUMMARY_EVERY_MS = 10_000;
const ENDED = new Set(["completed", "completed_with_errors", "failed", "stopped"]);
const byId = (id) => document.getElementById(id);
const config = JSON.parse(byId("run").textContent);
const run = { ...config };
const wall = new Wall(byId("wall"));
const pane = new PhonePane(config.run_id);
const stopButton = new StopButton(config.run_id);
const search = byId("search");
const chips = [...byId("chips").querySelectorAll(".chip")];
const baseTitle = document.title;
let skewMs = 0; // the backend's clock minus this machine's
const serverNow = () => Date.now() + skewMs;

// ---- filters and selection: they live in the address, and only there ----

const parameters = new URLSearchParams(location.search);
const view = { status: new Set(parameters.getAll("status")), q: parameters.get("q") ?? "", sel: parameters.get("sel") ?? "" };

function addressOf({ status, q, sel }) {
  const query = new URLSearchParams([...status].sort().map((state) => ["status", state]));
  if (q) query.set("q", q);
  if (sel) query.set("sel", sel);
  return query.size ? `${location.pathname}?${query}` : location.pathname;
}

function toggled(state) {
  const status = new Set(view.status);
  if (!status.delete(state)) status.add(state);
  return status;
}

/** The server decides by the same rule (views.matches). */
function matches(tile) {
  if (view.status.size && !view.status.has(tile.status)) return false;
  if (!view.q) return true;
  const { device, node, task } = tile;
  return `${device} ${node.id} ${task?.step_id ?? ""}`.toLowerCase().includes(view.q.trim().toLowerCase());
}

function keepView() {
  history.replaceState(null, "", addressOf(view));
  for (const chip of chips) {
    chip.href = addressOf({ ...view, status: toggled(chip.dataset.s) });
    chip.setAttribute("aria-pressed", String(view.status.has(chip.dataset.s)));
  }
}

function filterWall() {
  wall.filter(matches);
  showNone();
}

function showNone() {
  byId("none").hidden = wall.shown > 0;
}

function setFilter(change) {
  Object.assign(view, change);
  keepView();
  filterWall();
}

byId("chips").addEventListener("click", (event) => {
  const chip = event.target.closest(".chip");
  if (!chip || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  setFilter({ status: toggled(chip.dataset.s) });
});
byId("chips").addEventListener("keydown", (event) => {
  if (event.key === " " && event.target.closest(".chip")) {
    event.preventDefault();
    event.target.click();
  }
});
search.addEventListener("input", () => setFilter({ q: search.value }));
search.form.addEventListener("submit", (event) => event.preventDefault());
byId("none").querySelector("a").addEventListener("click", (event) => {
  event.preventDefault();
  search.value = "";
  setFilter({ status: new Set(), q: "" });
});

// ---- the chosen phone ----

const roving = rove(wall, (tile) => select(tile.device));

function select(deviceId) {
  wall.byDevice.get(view.sel)?.element.setAttribute("aria-selected", "false");
  view.sel = deviceId;
  keepView();
  const tile = wall.byDevice.get(deviceId);
  if (!tile) return pane.clear(deviceId);
  tile.element.setAttribute("aria-selected", "true");
  roving.stand(tile);
  return pane.show(deviceId, tile.task);
}

/** The next failed phone after the one that is chosen, round and round. */
function nextFailure(step) {
  const failed = wall.tiles.filter((tile) => tile.status === "failed" && !tile.off);
  if (!failed.length) return;
  const from = wall.byDevice.get(view.sel)?.at ?? (step > 0 ? -1 : wall.tiles.length);
  const ahead = step > 0 ? failed.find((tile) => tile.at > from) : failed.findLast((tile) => tile.at < from);
  const tile = ahead ?? failed.at(step > 0 ? 0 : -1);
  select(tile.device);
  roving.focus(tile);
}

byId("phone-close").addEventListener("click", (event) => {
  event.preventDefault();
  const tile = wall.byDevice.get(view.sel);
  select("");
  if (tile) roving.focus(tile);
});
// A tile's address follows the filters; it is only needed when the tile is opened in a tab of its own.
wall.element.addEventListener("pointerdown", (event) => {
  const tile = wall.byId.get(event.target.closest(".tile")?.dataset.id);
  if (tile) tile.element.href = addressOf({ ...view, sel: tile.device });
});
wall.element.addEventListener("pointerover", (event) => {
  const element = event.target.closest(".tile");
  if (element && wall.compact) element.title = element.ariaLabel;
});

// ---- what the server tells ----

let summarizedAt = -Infinity;
let summarizeLater = 0;

function showRun(next) {
  const ended = !ENDED.has(run.status) && ENDED.has(next.status);
  // What is null is not sent: a run that goes on after all has no end any more.
  Object.assign(run, { started_at: null, ended_at: null, stop_requested_at: null }, next);
  const { counts } = run;
  const finished = finishedOf(counts);
  for (const chip of chips) {
    const count = counts[chip.dataset.s] ?? 0;
    setText(chip.lastElementChild, String(count));
    chip.toggleAttribute("data-none", !count);
  }
  const bar = byId("progress").querySelector(".bar");
  drawBar(bar, counts);
  bar.setAttribute("aria-label", say("progress", { finished, total: counts.total }));
  setText(byId("finished"), String(finished));
  const badge = byId("run-badge").firstElementChild;
  badge.dataset.s = run.status;
  setText(badge.lastElementChild, texts.run[run.status]);
  stopButton.show(run, wall.silent());
  document.title = `${finished}/${counts.total} ${baseTitle}`;
  summarize(ended);
}

/** One line for screen readers, at most every ten seconds, and at once when the run ends. */
function summarize(atOnce) {
  clearTimeout(summarizeLater);
  const wait = summarizedAt + SUMMARY_EVERY_MS - performance.now();
  if (wait > 0 && !atOnce) {
    summarizeLater = setTimeout(summarize, wait, false);
    return;
  }
  summarizedAt = performance.now();
  const key = ENDED.has(run.status) ? "summary_end" : "summary";
  setText(byId("summary"), say(key, { ...run.counts, finished: finishedOf(run.counts) }));
}

function apply(body) {
  const touched = wall.apply(body.tasks, serverNow(), matches);
  wall.tell(body.nodes ?? []);
  showRun(body.run);
  showNone();
  const chosen = touched.find((tile) => tile.device === view.sel);
  if (chosen) pane.show(chosen.device, chosen.task);
}

/** What moves with time alone stands still while there is no news: it would look alive. */
function tick() {
  if (document.documentElement.classList.contains("stale")) return;
  wall.countDown(serverNow());
  pane.tick(serverNow());
  if (run.started_at) setText(byId("elapsed"), duration((run.ended_at ?? serverNow()) - run.started_at));
}

const connection = byId("connection");
const showAge = staleBanner((ms) => say("stale", { age: duration(ms) }));

function showState(state, ageMs) {
  connection.hidden = false;
  connection.dataset.state = state;
  setText(connection.lastElementChild, say(state === "stale" ? "offline" : state));
  showAge(state === "stale" ? ageMs : 0);
}

follow(`/api/runs/${config.run_id}/events`, config.stale_ms, {
  snapshot: apply,
  delta: apply,
  time: (ms) => (skewMs = ms - Date.now()),
  state: showState,
});

// ---- keys ----

bindKey("/", () => search.focus());
bindKey("f", () => nextFailure(1));
bindKey("F", () => nextFailure(-1));
bindKey("Escape", (event) => {
  if (event.target === search && search.value) {
    search.value = "";
    setFilter({ q: "" });
  } else if (event.target === search) search.blur();
  else if (view.sel) byId("phone-close").click();
  else return false;
  return true;
});
for (const key of ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"]) {
  bindKey(key, (event) => {
    if (event.target !== document.body || !roving.current()) return false;
    roving.focus(roving.current());
    return true;
  });
}

if (view.sel) select(view.sel);
filterWall();
stopButton.show(run, wall.silent());
everySecond(tick);
tick();
