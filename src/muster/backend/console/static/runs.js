// The list refreshes itself; without JavaScript it is a page like any other.

import { bindKey, duration, everySecond, localTimes, say, setText } from "./page.js";
import { staleBanner } from "./stream.js";

const EVERY_MS = 2000;
const PATIENCE_MS = 8000;
const showAge = staleBanner((ms) => say("list_stale", { age: duration(ms) }));
let shown = document.getElementById("list").innerHTML;
let freshAt = performance.now();

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    freshAt = performance.now();
    replace(page.getElementById("list"));
  } catch (error) {
    console.info("The list was not refreshed:", error.message);
  }
  const age = performance.now() - freshAt;
  showAge(age > PATIENCE_MS ? age : 0);
}

/** Puts the new list in place of the old one, unless nothing changed; the focus stays on the link it was on. */
function replace(list) {
  if (list.innerHTML === shown) return;
  shown = list.innerHTML;
  const focused = document.activeElement?.getAttribute?.("href");
  localTimes(list);
  document.getElementById("list").replaceWith(document.adoptNode(list));
  showDurations();
  if (focused) document.querySelector(`#list a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function showDurations() {
  if (document.documentElement.classList.contains("stale")) return;
  for (const element of document.querySelectorAll("[data-since]")) {
    setText(element, duration(Date.now() - Number(element.dataset.since)));
  }
}

function moveBy(step) {
  const links = [...document.querySelectorAll(".c-recipe a")];
  const at = links.indexOf(document.activeElement);
  links[at < 0 ? 0 : Math.min(Math.max(at + step, 0), links.length - 1)]?.focus();
}

bindKey("ArrowDown", () => moveBy(1));
bindKey("ArrowUp", () => moveBy(-1));
everySecond(showDurations);
showDurations();
setInterval(refresh, EVERY_MS);
document.addEventListener("visibilitychange", () => {
  freshAt = performance.now();
  refresh();
});
