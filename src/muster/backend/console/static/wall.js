// The heatmap. Tiles are made by the server and stay where they are; this only changes what has changed on them.

import { dateAndTime, say, setText, texts } from "./page.js";

const STATES = ["succeeded", "failed", "skipped_offline", "cancelled", "running", "waiting"];
const FINISHED = new Set(["succeeded", "failed", "skipped_offline", "cancelled"]);
const SVG = "http://www.w3.org/2000/svg";

/** Draws a proportional bar: finished states first, then what is under way. */
export function drawBar(svg, counts) {
  let x = 0;
  for (const state of STATES) {
    const length = counts[state] ?? 0;
    let part = svg.querySelector(`[data-s="${state}"]`);
    if (!part && length) {
      part = svg.appendChild(document.createElementNS(SVG, "rect"));
      part.dataset.s = state;
      part.setAttribute("height", "1");
    }
    part?.setAttribute("x", x);
    part?.setAttribute("width", length);
    x += length;
  }
}

export const finishedOf = (counts) => [...FINISHED].reduce((sum, state) => sum + (counts[state] ?? 0), 0);

/** "WAIT 12s" counts down ("WAIT 30m" for another agent's phone); that it becomes an error is an event from the server, never a timer here. */
export function badgeText(task, now) {
  if (task.unreachable) return say("unreachable");
  const name = texts.task[task.status];
  if (task.status !== "waiting" || task.wait_until == null) return name;
  const seconds = Math.max(0, Math.ceil((task.wait_until - now) / 1000));
  return seconds > 120 ? `${name} ${Math.ceil(seconds / 60)}m` : `${name} ${seconds}s`;
}

function stepText(task) {
  if (task.step_index == null) return (task.status === "cancelled" ? null : task.failure_reason) ?? task.step_id ?? "";
  return `${task.step_index + 1}${task.steps_total ? `/${task.steps_total}` : ""} ${task.step_id}`;
}

function part(className, text, title = "") {
  const element = document.createElement("span");
  if (className) element.className = className;
  if (title) element.title = title;
  element.textContent = text;
  return element;
}

/** Why somebody should look at a node: [text, the node's own words]; parts.html writes the same. */
function whyIll({ status, troubles = [], last_error_message: error, last_heartbeat_at: heardAt }) {
  if (status === "offline") return [[heardAt ? `${say("last_heartbeat")} ${dateAndTime(heardAt)}` : say("never_heard")]];
  if (status === "degraded" && !troubles.length) return [[error ?? say("not_told")]];
  return troubles.map(({ reason, message }) => [texts.trouble[reason] ?? message, message]);
}

export class Wall {
  constructor(element) {
    this.element = element;
    this.tiles = [];
    this.byId = new Map();
    this.byDevice = new Map();
    this.waiting = new Set();
    this.compact = element.dataset.size === "compact";
    this.nodes = [...element.querySelectorAll(".node")].map((section) => this.#node(section));
    this.shown = this.tiles.filter((tile) => !tile.off).length;
  }

  #node(section) {
    const node = {
      id: section.dataset.node, section, counts: {}, shown: 0,
      bar: section.querySelector(".bar"), finished: section.querySelector(".of b"),
      condition: section.querySelector(".condition"), told: null, total: 0,
    };
    for (const element of section.querySelectorAll(".tile")) this.#tile(element, node);
    section.classList.toggle("empty", !node.shown);
    node.total = Object.values(node.counts).reduce((sum, count) => sum + count, 0);
    return node;
  }

  /** Notes how nodes are, as the server tells it. */
  tell(conditions) {
    for (const condition of conditions) {
      const node = this.nodes.find(({ id }) => id === condition.node_id);
      if (!node) continue;
      node.told = condition;
      this.#drawCondition(node);
    }
  }

  /** Of no concern to this run once its part there is over. */
  #drawCondition({ condition, counts, told, total }) {
    if (!told) return;
    const isIll = finishedOf(counts) < total && (told.status !== "online" || told.troubles?.length > 0);
    if (isIll) {
      const badge = part("badge", "");
      badge.dataset.s = told.status === "offline" ? "failed" : "completed_with_errors";
      badge.append(Object.assign(document.createElement("i"), { className: "g" }), part("", texts.node[told.status]));
      const why = part("why", "");
      why.append(...whyIll(told).map(([text, title]) => part("", text, title)));
      condition.replaceChildren(badge, " ", why);
    }
    condition.hidden = !isIll;
  }

  #tile(element, node) {
    const [, device, badge, step] = element.children;
    const tile = {
      element, node, badge, step, device: device.textContent, status: element.dataset.s, at: this.tiles.length,
      off: element.classList.contains("off"), task: null,
    };
    node.counts[tile.status] = (node.counts[tile.status] ?? 0) + 1;
    node.shown += !tile.off;
    this.tiles.push(tile);
    this.byId.set(element.dataset.id, tile);
    this.byDevice.set(tile.device, tile);
  }

  /** Applies the changed tasks; returns the tiles that were touched. */
  apply(tasks, now, matches) {
    const touched = [];
    const nodes = new Set();
    for (const task of tasks) {
      const tile = this.byId.get(task.task_id);
      if (!tile) continue;
      tile.task = task;
      if (tile.status !== task.status) {
        this.#move(tile, task.status);
        nodes.add(tile.node);
      }
      this.#write(tile, now);
      this.#show(tile, matches(tile));
      touched.push(tile);
    }
    nodes.forEach((node) => this.#drawNode(node));
    return touched;
  }

  #move(tile, status) {
    tile.node.counts[tile.status] -= 1;
    tile.node.counts[status] = (tile.node.counts[status] ?? 0) + 1;
    tile.status = tile.element.dataset.s = status;
    this.waiting[status === "waiting" ? "add" : "delete"](tile);
  }

  #write(tile, now) {
    const { task } = tile;
    this.#writeBadge(tile, now);
    tile.element.toggleAttribute("data-unreachable", Boolean(task.unreachable));
    if (!this.compact) setText(tile.step, stepText(task));
    const attempt = tile.element.querySelector("sup");
    if (task.attempt > 1) setText(attempt ?? tile.element.appendChild(document.createElement("sup")), String(task.attempt));
    if (task.status === "waiting") this.waiting.add(tile);
  }

  /** A compact tile shows no text: its name is an attribute, which costs no layout. */
  #writeBadge(tile, now) {
    const { element, badge, device, task } = tile;
    if (!this.compact) return setText(badge, badgeText(task, now));
    const name = `${device} ${badgeText(task, now)} ${stepText(task)}`.trim();
    if (element.ariaLabel !== name) element.ariaLabel = name;
    return undefined;
  }

  #show(tile, on) {
    if (tile.off !== on) return;
    tile.off = !on;
    tile.element.classList.toggle("off", !on);
    this.shown += on ? 1 : -1;
    tile.node.shown += on ? 1 : -1;
    tile.node.section.classList.toggle("empty", !tile.node.shown);
  }

  #drawNode(node) {
    drawBar(node.bar, node.counts);
    setText(node.finished, String(finishedOf(node.counts)));
    this.#drawCondition(node);
  }

  /** Hides what does not match: in the compact wall it keeps its place, among cards it goes. */
  filter(matches) {
    for (const tile of this.tiles) this.#show(tile, matches(tile));
  }

  /** Open phones of nodes that do not answer now. */
  silent() {
    const found = { queued: 0, busy: 0 };
    for (const { element, status } of this.tiles) {
      if (element.hasAttribute("data-unreachable")) found[status === "queued" ? "queued" : "busy"] += 1;
    }
    return found;
  }

  countDown(now) {
    for (const tile of this.waiting) if (tile.task) this.#writeBadge(tile, now);
  }
}
