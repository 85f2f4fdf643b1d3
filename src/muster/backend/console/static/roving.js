// The wall as one tab stop: arrows move among the phones, by where they are on the screen.

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

/** `onOpen(tile)` is called for Enter and clicks. Returns a function that moves the focus to a tile. */
export function rove(wall, onOpen) {
  let current = wall.tiles[0];

  function stand(tile) {
    if (current) current.element.tabIndex = -1;
    current = tile;
    tile.element.tabIndex = 0;
  }

  function focus(tile) {
    stand(tile);
    tile.element.focus({ preventScroll: true });
    tile.element.scrollIntoView({ block: "nearest" });
  }

  function beside(step) {
    for (let at = current.at + step; wall.tiles[at]; at += step) if (!wall.tiles[at].off) return wall.tiles[at];
    return null;
  }

  /** The nearest tile in the next row up or down. */
  function above(direction) {
    const from = current.element.getBoundingClientRect();
    const centre = (from.left + from.right) / 2;
    let best = null;
    let row = null;
    let distance = Infinity;
    for (let at = current.at + direction; wall.tiles[at]; at += direction) {
      const tile = wall.tiles[at];
      if (tile.off) continue;
      const box = tile.element.getBoundingClientRect();
      if (direction > 0 ? box.top < from.bottom : box.bottom > from.top) continue;
      if (row !== null && Math.abs(box.top - row) > 1) break;
      row = box.top;
      const apart = Math.abs((box.left + box.right) / 2 - centre);
      if (apart < distance) [best, distance] = [tile, apart];
    }
    return best;
  }

  function onKeyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !event.target.closest(".tile")) return;
    const shown = () => wall.tiles.filter((tile) => !tile.off);
    let next = null;
    if (event.key in STEPS) next = beside(STEPS[event.key]);
    else if (event.key === "ArrowDown") next = above(1);
    else if (event.key === "ArrowUp") next = above(-1);
    else if (event.key === "Home") next = shown()[0];
    else if (event.key === "End") next = shown().at(-1);
    else return;
    event.preventDefault();
    if (next) focus(next);
  }

  wall.element.addEventListener("keydown", onKeyDown);
  wall.element.addEventListener("click", (event) => {
    const element = event.target.closest(".tile");
    if (!element || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const tile = wall.byId.get(element.dataset.id);
    stand(tile);
    onOpen(tile);
  });
  if (current) stand(current);
  return { focus, stand, current: () => current };
}
