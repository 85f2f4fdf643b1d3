// What every page has: its texts, the viewer's own time zone, the keys that navigate, and the sheet that lists them.

const strings = JSON.parse(document.getElementById("strings").textContent);
export const texts = strings;

/** A text of the page in the viewer's language, its {names} filled in. */
export function say(key, values = {}) {
  return strings.text[key].replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** "412 ms", "41 s", "2 min 13 s", "1 h 02 min"; the server writes them the same way. */
export function duration(ms) {
  if (ms == null || ms < 0) return "";
  if (ms < 1000) return say("ms", { ms: Math.round(ms) });
  const s = Math.floor(ms / 1000);
  if (s < 60) return say("sec", { s });
  if (s < 3600) return say("min_sec", { m: Math.floor(s / 60), s: s % 60 });
  return say("hour_min", { h: Math.floor(s / 3600), m: String(Math.floor((s % 3600) / 60)).padStart(2, "0") });
}

/** As `duration`, with a decimal below ten seconds: "1.2 s". */
export function precise(ms) {
  return ms >= 1000 && ms < 10_000 ? say("sec", { s: (ms / 1000).toFixed(1) }) : duration(ms);
}

const dayAndTime = new Intl.DateTimeFormat(strings.language, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const exact = new Intl.DateTimeFormat(strings.language, { dateStyle: "full", timeStyle: "long", hourCycle: "h23" });
const clock = new Intl.DateTimeFormat(strings.language, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

/** Hours, minutes and seconds in the viewer's zone. */
export const timeOfDay = (ms) => clock.format(ms);

/** Day, hour and minute in the viewer's zone. */
export const dateAndTime = (ms) => dayAndTime.format(ms);

/** Puts every <time> below `root` into the viewer's zone. */
export function localTimes(root = document) {
  for (const element of root.querySelectorAll("time[data-ms]")) {
    const ms = Number(element.dataset.ms);
    element.textContent = dayAndTime.format(ms);
    element.title = exact.format(ms);
  }
}

/** Writes a text node only when it changes: a write alone already costs a layout. */
export function setText(element, text) {
  const node = element.firstChild ?? element.appendChild(document.createTextNode(""));
  if (node.data !== text) node.data = text;
}

/** Runs `work` every second while somebody looks. */
export function everySecond(work) {
  setInterval(() => document.hidden || work(), 1000);
}

// ---- keys: they only navigate, and can be turned off ----

const STORED = "muster.keys";
const bindings = new Map();
let prefix = "";
let prefixUntil = 0;

/** Binds a key ("f", "/", "Escape") or a sequence ("g r"). `work` gets the event. */
export function bindKey(keys, work) {
  bindings.set(keys, work);
}

function isTyping(target) {
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}

function keysAreOn() {
  try {
    return localStorage.getItem(STORED) !== "off";
  } catch {
    return true; // storage may be forbidden; the keys then stay as they come
  }
}

function onKeyDown(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]")) return; // it has the keyboard; Escape closes it and nothing behind it
  if (event.key !== "Escape" && (isTyping(event.target) || !keysAreOn())) return;
  const sequence = performance.now() < prefixUntil ? `${prefix} ${event.key}` : event.key;
  const work = bindings.get(sequence) ?? bindings.get(event.key);
  prefix = event.key;
  prefixUntil = work ? 0 : performance.now() + 1500;
  if (work && work(event) !== false) event.preventDefault();
}

const sheet = document.getElementById("keys");
const opener = document.getElementById("keys-open");
const toggle = document.getElementById("keys-on");

function start() {
  localTimes();
  opener.hidden = false;
  opener.addEventListener("click", () => sheet.showModal());
  toggle.checked = keysAreOn();
  toggle.addEventListener("change", () => {
    try {
      localStorage.setItem(STORED, toggle.checked ? "on" : "off");
    } catch {
      toggle.checked = true;
    }
  });
  bindKey("?", () => sheet.showModal());
  bindKey("g r", () => location.assign("/runs"));
  document.addEventListener("keydown", onKeyDown);
}

start();
