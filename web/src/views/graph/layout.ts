// Where the boxes of a nested graph stand: each container is layered by itself, from the inside out.
//
// Layered drawing after Sugiyama: ranks by the longest path, long edges through points of their own
// that edges from one source share, fewer crossings by barycentres, and x by least squares under the
// distances that neighbours keep. Containers meet their surroundings at ports on their border, so
// what opens inside one moves nothing inside another.

export interface Box {
  id: string;
  width: number;
  height: number;
  /** What is drawn inside; null for a closed box. */
  inside: Level | null;
}

/** Ends of an edge: a box by its id, or a port: "in:KEY" above, "out" below. */
export interface Edge {
  from: string;
  to: string;
  /** Width of its label, which stands right of it in the gap below its start; 0 for none. */
  room: number;
}

export interface Level {
  boxes: Box[];
  /** Keys of the ports above: the id of what feeds them in the surrounding level. */
  ins: string[];
  hasOut: boolean;
  edges: Edge[];
}

export interface Placed {
  id: string;
  x: number;
  y: number;
  width: number;
  height: number;
  inside: PlacedLevel | null;
}

export interface PlacedEdge {
  edge: Edge;
  /** x, y of the way from above to below: vertical pieces, with curves between. */
  points: [number, number][];
  /** The gap right below its start, where a label has room. */
  label: { x: number; y: number };
  /** It passes beside other boxes. */
  isLong: boolean;
}

export interface PlacedLevel {
  boxes: Placed[];
  edges: PlacedEdge[];
  width: number;
  height: number;
  ports: Map<string, number>;
}

export const TITLE = 30;
const PADDING = 16;
const GAP = 36;
const GAP_AT_BORDER = 24;
const BESIDE = 22;
/** Between an edge and its label. */
const LABEL = 8;
const BESIDE_LINE = 16;
const SWEEPS = 12;
/** How much a link pulls: on a line of single parts, along a long way, to the part that follows. */
const [TRUNK, WAY, DIRECT] = [1000, 50, 8];

interface Node {
  id: string;
  width: number;
  height: number;
  rank: number;
  x: number;
  box: Placed | null;
  /** A place that a long edge goes through. */
  isPoint: boolean;
  above: Link[];
  below: Link[];
  order: number;
}

/** One piece of an edge, between neighbouring ranks; where it meets either node, from its middle. */
interface Link {
  node: Node;
  mine: number;
  other: number;
  weight: number;
}

/** Place a level; `isRoot` has no title and no border. */
export function layout(level: Level, isRoot = true): PlacedLevel {
  const inner = new Map(level.boxes.map((box) => [box.id, placedInside(box)]));
  const nodes = new Map<string, Node>();
  const add = (id: string, width: number, height: number, box: Placed | null) => nodes.set(id, { id, width, height, rank: 0, x: 0, box, isPoint: false, above: [], below: [], order: nodes.size });
  for (const key of level.ins) add(`in:${key}`, 0, 0, null);
  for (const box of level.boxes) {
    const placed = inner.get(box.id)!;
    add(box.id, placed.width, placed.height, placed);
  }
  if (level.hasOut) add("out", 0, 0, null);
  rank(level, nodes);
  const ways = connect(level.edges, nodes);
  const ranks = byRank([...nodes.values(), ...new Set(ways.flatMap((way) => way.chain))]);
  order(ranks);
  const straight = trunks([...nodes.values()]);
  placeX(ranks);
  const lines = [...straight, ...ways.map((way) => way.chain.map((node) => ({ node, offset: 0 })))];
  for (let round = 0; round < 2; round += 1) for (const line of lines) straighten(line, ranks);
  return finished(level, ranks, nodes, ways, isRoot);
}

function placedInside(box: Box): Placed {
  if (!box.inside) return { id: box.id, x: 0, y: 0, width: box.width, height: box.height, inside: null };
  const inside = layout(box.inside, false);
  return { id: box.id, x: 0, y: 0, width: Math.max(box.width, inside.width), height: inside.height, inside: shifted(inside, Math.max(0, box.width - inside.width) / 2) };
}

function shifted(level: PlacedLevel, by: number): PlacedLevel {
  if (!by) return level;
  for (const box of level.boxes) box.x += by;
  for (const edge of level.edges) {
    for (const point of edge.points) point[0] += by;
    edge.label.x += by;
  }
  for (const [key, x] of level.ports) level.ports.set(key, x + by);
  return level;
}

/** Edges lead from earlier to later nodes, so one pass in their order finds the longest paths. */
function rank(level: Level, nodes: Map<string, Node>): void {
  const places = new Map([...nodes.keys()].map((id, index) => [id, index]));
  const edges = [...level.edges].sort((a, b) => places.get(a.from)! - places.get(b.from)!);
  for (const port of level.ins) nodes.get(`in:${port}`)!.rank = 0;
  const least = level.ins.length ? 1 : 0;
  for (const box of level.boxes) nodes.get(box.id)!.rank = least;
  for (const { from, to } of edges) {
    const target = nodes.get(to)!;
    target.rank = Math.max(target.rank, nodes.get(from)!.rank + 1);
  }
  // What nothing feeds stands right above what it feeds.
  const fed = new Set(level.edges.map((edge) => edge.to));
  for (const box of level.boxes) {
    const targets = level.edges.filter((edge) => edge.from === box.id).map((edge) => nodes.get(edge.to)!.rank);
    if (!fed.has(box.id) && targets.length) nodes.get(box.id)!.rank = Math.max(least, Math.min(...targets) - 1);
  }
  const last = Math.max(0, ...level.boxes.map((box) => nodes.get(box.id)!.rank));
  if (level.hasOut) nodes.get("out")!.rank = last + 1;
}

interface Way {
  edge: Edge;
  source: Node;
  target: Node;
  /** Points below the source, one a rank; those above the target are this way's. */
  chain: Node[];
}

/** Link neighbours; a long edge goes through points, which edges from the same source share. */
function connect(edges: Edge[], nodes: Map<string, Node>): Way[] {
  const shared = new Map<string, Node[]>();
  const ways: Way[] = [];
  for (const edge of edges) {
    const source = nodes.get(edge.from)!;
    const target = nodes.get(edge.to)!;
    const chain = shared.get(edge.from) ?? [];
    shared.set(edge.from, chain);
    for (let at = source.rank + 1; at < target.rank; at += 1) {
      if (chain.length > at - source.rank - 1) continue;
      const point: Node = { id: `${edge.from}@${at}`, width: 0, height: 0, rank: at, x: 0, box: null, isPoint: true, above: [], below: [], order: source.order + 0.5 };
      link(chain[chain.length - 1] ?? source, point, chain.length ? 0 : outOffset(source), 0, chain.length ? WAY : 1);
      chain.push(point);
    }
    const before = chain[target.rank - source.rank - 2] ?? source;
    // What follows directly stands straight below; a way around may bend.
    link(before, target, before === source ? outOffset(source) : 0, inOffset(target, edge.from), before === source ? DIRECT : 1);
    ways.push({ edge, source, target, chain });
  }
  return ways;
}

function link(upper: Node, lower: Node, upperAt: number, lowerAt: number, weight: number): void {
  upper.below.push({ node: lower, mine: upperAt, other: lowerAt, weight });
  lower.above.push({ node: upper, mine: lowerAt, other: upperAt, weight });
}

function inOffset(node: Node, from: string): number {
  const ports = node.box?.inside?.ports;
  const at = ports?.get(`in:${from}`) ?? ports?.get("in:*");
  return at === undefined ? 0 : at - node.width / 2;
}

function outOffset(node: Node): number {
  const at = node.box?.inside?.ports.get("out");
  return at === undefined ? 0 : at - node.width / 2;
}

function byRank(nodes: Node[]): Node[][] {
  const ranks: Node[][] = [];
  for (const node of nodes) (ranks[node.rank] ??= []).push(node);
  for (let index = 0; index < ranks.length; index += 1) (ranks[index] ??= []).sort((a, b) => a.order - b.order);
  return ranks;
}

/** Fewer crossings: each node to the mean place of its neighbours, down and up again. */
function order(ranks: Node[][]): void {
  const place = new Map<Node, number>();
  const number = (nodes: Node[]) => nodes.forEach((node, index) => place.set(node, index - (nodes.length - 1) / 2));
  ranks.forEach(number);
  const sweep = (side: "above" | "below", list: Node[][]) => {
    for (const nodes of list) {
      const key = new Map(nodes.map((node) => {
        const links = node[side];
        if (!links.length) return [node, place.get(node)!];
        return [node, links.reduce((sum, one) => sum + place.get(one.node)!, 0) / links.length];
      }));
      nodes.sort((a, b) => key.get(a)! - key.get(b)! || a.order - b.order);
      number(nodes);
    }
  };
  for (let round = 0; round < 4; round += 1) {
    sweep("above", ranks);
    sweep("below", [...ranks].reverse());
  }
  sweep("above", ranks);
}

function placeX(ranks: Node[][]): void {
  for (const nodes of ranks) {
    let at = 0;
    nodes.forEach((node, index) => {
      if (index) at += distance(nodes[index - 1]!, node);
      node.x = at;
    });
    const middle = at / 2;
    for (const node of nodes) node.x -= middle;
  }
  for (let round = 0; round < SWEEPS; round += 1) {
    for (const nodes of ranks) settle(nodes, ["above"]);
    for (let index = ranks.length - 1; index >= 0; index -= 1) settle(ranks[index]!, ["below"]);
  }
  for (const nodes of ranks) settle(nodes, ["above", "below"]);
}

/** Move the nodes of a rank towards their neighbours, in order and apart (isotonic regression). */
function settle(nodes: Node[], sides: ("above" | "below")[]): void {
  const runs: { sum: number; weight: number; from: number }[] = [];
  const offsets: number[] = [];
  nodes.forEach((node, index) => {
    offsets.push(index ? offsets[index - 1]! + distance(nodes[index - 1]!, node) : 0);
    let weight = 0.01;
    let sum = 0.01 * node.x;
    for (const side of sides) {
      for (const one of node[side]) {
        weight += one.weight;
        sum += one.weight * (one.node.x + one.other - one.mine);
      }
    }
    runs.push({ sum: sum - weight * offsets[index]!, weight, from: index });
    while (runs.length > 1) {
      const [before, last] = [runs[runs.length - 2]!, runs[runs.length - 1]!];
      if (before.sum / before.weight <= last.sum / last.weight) break;
      runs.splice(-2, 2, { sum: before.sum + last.sum, weight: before.weight + last.weight, from: before.from });
    }
  });
  runs.forEach((run, index) => {
    const end = runs[index + 1]?.from ?? nodes.length;
    for (let at = run.from; at < end; at += 1) nodes[at]!.x = run.sum / run.weight + offsets[at]!;
  });
}

interface OnLine {
  node: Node;
  /** Where the line meets it, from the first one's middle. */
  offset: number;
}

/** Runs of nodes that only follow each other: they are to stand on one line, so their links weigh most. */
function trunks(nodes: Node[]): OnLine[][] {
  const direct = (links: Link[]) => links.filter((one) => !one.node.isPoint);
  const next = (node: Node): Link | undefined => {
    const [link, ...more] = direct(node.below);
    return link && !more.length && direct(link.node.above).length === 1 ? link : undefined;
  };
  const followed = new Set(nodes.map((node) => next(node)?.node));
  return nodes.filter((node) => !followed.has(node) && next(node)).map((first) => {
    const line: OnLine[] = [{ node: first, offset: 0 }];
    for (let link = next(first), offset = 0; link; link = next(link.node)) {
      link.weight = TRUNK;
      for (const back of link.node.above) if (!back.node.isPoint) back.weight = TRUNK;
      offset += link.mine - link.other;
      line.push({ node: link.node, offset });
    }
    return line;
  });
}

/** What belongs on one line is put there, where its neighbours leave room for it. */
function straighten(line: OnLine[], ranks: Node[][]): void {
  let [least, most, sum] = [-Infinity, Infinity, 0];
  for (const { node, offset } of line) {
    const rank = ranks[node.rank]!;
    const index = rank.indexOf(node);
    const [left, right] = [rank[index - 1], rank[index + 1]];
    if (left) least = Math.max(least, left.x + distance(left, node) - offset);
    if (right) most = Math.min(most, right.x - distance(node, right) - offset);
    sum += node.x - offset;
  }
  if (!line.length || least > most) return;
  const x = Math.max(least, Math.min(most, sum / line.length));
  for (const { node, offset } of line) node.x = x + offset;
}

function distance(a: Node, b: Node): number {
  return (a.width + b.width) / 2 + (a.box && b.box ? BESIDE : BESIDE_LINE);
}

function finished(level: Level, ranks: Node[][], nodes: Map<string, Node>, ways: Way[], isRoot: boolean): PlacedLevel {
  const all = ranks.flat();
  const left = (all.length ? Math.min(...all.map((node) => node.x - node.width / 2)) : 0) - PADDING;
  const labels = ways.filter((way) => way.edge.room && way.target.rank === way.source.rank + 1).map((way) => way.source.x + outOffset(way.source) + way.edge.room + LABEL);
  const width = Math.max(left, ...all.map((node) => node.x + node.width / 2), ...labels) + PADDING - left;
  const tops: number[] = [];
  const heights = ranks.map((rank) => Math.max(0, ...rank.map((node) => node.height)));
  // Ports stand on the border; what comes from them goes straight past the title first.
  const hasPorts = level.ins.length > 0;
  if (hasPorts) heights[0] = TITLE;
  let y = isRoot ? PADDING : hasPorts ? 0 : TITLE;
  const end = ranks.length - 1;
  heights.forEach((height, index) => {
    tops.push(y);
    const isBorder = (hasPorts && index === 0) || (level.hasOut && index === end - 1);
    y += height + (isBorder ? GAP_AT_BORDER : GAP);
  });
  const height = level.hasOut ? tops[end]! : y - GAP + PADDING;
  for (const node of all) {
    node.x -= left;
    if (!node.box) continue;
    node.box.x = node.x - node.width / 2;
    node.box.y = tops[node.rank]! + (heights[node.rank]! - node.height) / 2;
  }
  const edges = ways.map((way) => drawn(way, tops, heights));
  const ports = new Map<string, number>();
  for (const key of level.ins) ports.set(`in:${key}`, nodes.get(`in:${key}`)!.x);
  if (level.hasOut) ports.set("out", nodes.get("out")!.x);
  return { boxes: level.boxes.map((box) => nodes.get(box.id)!.box!), edges, width, height, ports };
}

function drawn({ edge, source, target, chain }: Way, tops: number[], heights: number[]): PlacedEdge {
  const bottom = (rank: number) => tops[rank]! + heights[rank]!;
  const from = source.x + outOffset(source);
  const start = source.box ? source.box.y + source.box.height : tops[source.rank]!;
  const points: [number, number][] = [[from, start], [from, bottom(source.rank)]];
  for (const point of chain.slice(0, target.rank - source.rank - 1)) points.push([point.x, tops[point.rank]!], [point.x, bottom(point.rank)]);
  const to = target.x + inOffset(target, edge.from);
  points.push([to, tops[target.rank]!], [to, target.box ? target.box.y : tops[target.rank]!]);
  const gap = tops[source.rank + 1]! - bottom(source.rank);
  return { edge, points, label: { x: (points[1]![0] + points[2]![0]) / 2, y: bottom(source.rank) + gap / 2 }, isLong: target.rank - source.rank > 1 };
}
