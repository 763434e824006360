// Corrected annotations as COCO and labelme, the fields and frames as io/annotations/ has them, and files of them.
// An image has `accepted` and `items`, all that are on it; a keypoint has x and y, a box `box`, a mask `polygons`.

const HALF = 0.5; // pixels, from a pixel's corner, where COCO's boxes and labelme have their origin, to its centre
const rounded = (value, digits = 2) => Number(value.toFixed(digits));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Items by the number of their object, in its order. */
function byObject(items) {
  const objects = new Map();
  for (const item of items) objects.set(item.object, [...(objects.get(item.object) ?? []), item]);
  return [...objects.entries()].sort(([one], [other]) => one - other).map(([, members]) => members);
}

function cocoBox([left, top, right, bottom]) {
  return [left + HALF, top + HALF, right - left, bottom - top].map((value) => rounded(value));
}

/** The fields of one object that its kind has. points: its keypoints, in any order; names: those of its category. */
function cocoKeypoints(points, names) {
  const found = new Map(points.map((point) => [point.name, point]));
  const axes = [points.map((point) => point.x), points.map((point) => point.y)];
  const [left, top, right, bottom] = [Math.min, Math.max].flatMap((edge) => axes.map((axis) => edge(...axis)));
  return {
    keypoints: names.flatMap((name) => {
      const { x, y, visibility } = found.get(name) ?? { x: 0, y: 0, visibility: 0 };
      return [x, y, visibility];
    }),
    num_keypoints: points.length,
    keypoint_scores: names.map((name) => found.get(name)?.confidence ?? 0),
    area: rounded((right - left) * (bottom - top)),
    bbox: cocoBox([left, top, right, bottom]),
  };
}

function cocoShape(members, category) {
  const [first] = members;
  if ("name" in first) return cocoKeypoints(members, category.keypoints);
  const [left, top, right, bottom] = first.box;
  const area = first.area ?? rounded((right - left) * (bottom - top));
  const mask = first.segmentation ? { segmentation: first.segmentation } : {};
  return { ...mask, area, bbox: cocoBox(first.box) };
}

/** A COCO document of images, in the order of the list that was transferred to. */
function cocoText(images, { categories, versions }) {
  const ordered = [...images].sort((one, other) => one.number - other.number);
  const annotations = ordered.flatMap((image, place) =>
    byObject(image.items).map((members) => {
      const category = categories.find((each) => each.name === members[0].label);
      return {
        image_id: place + 1,
        category_id: category.id,
        iscrowd: 0,
        score: rounded(mean(members.map((item) => item.confidence)), 4),
        visibility: Math.max(...members.map((item) => item.visibility)),
        ...cocoShape(members, category),
      };
    }),
  );
  return JSON.stringify({
    info: { description: `transferred by geomatch ${versions.geomatch}, corrected by hand` },
    images: ordered.map(({ image, width, height, accepted }, place) => ({
      id: place + 1, file_name: image, width, height, accepted,
    })),
    annotations: annotations.map((each, place) => ({ id: place + 1, ...each })),
    categories: categories.map(({ id, name, keypoints, skeleton }) =>
      keypoints.length ? { id, name, keypoints, skeleton } : { id, name },
    ),
  });
}

/** The labelme file of one image. */
function labelmeText({ items, path, width, height, accepted }, { versions }) {
  const shape = (type, item, label, points) => ({
    label,
    points: points.map((point) => point.map((axis) => rounded(axis))),
    group_id: item.object,
    shape_type: type,
    flags: {},
    confidence: item.confidence,
    visibility: item.visibility,
  });
  const shapes = byObject(items).flat().flatMap((item) => {
    if ("name" in item) return [shape("point", item, item.name, [[item.x + HALF, item.y + HALF]])];
    if (item.polygons) return item.polygons.map((polygon) => shape("polygon", item, item.label, pairs(polygon)));
    return [shape("rectangle", item, item.label, pairs(item.box.map((side) => side + HALF)))];
  });
  const document = {
    version: versions.labelme,
    flags: { accepted },
    shapes,
    imagePath: path,
    imageData: null,
    imageHeight: height,
    imageWidth: width,
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** x, y, x, y ... as [x, y], [x, y] ... */
function pairs(flat) {
  return Array.from({ length: flat.length / 2 }, (_, k) => flat.slice(2 * k, 2 * k + 2));
}

/** File names that any system takes, each once. */
function fileNames(stems, suffix) {
  const taken = new Set();
  return stems.map((stem) => {
    const plain = stem.replace(/[/\\:*?"<>|\p{Cc}\p{Cs}]/gu, "_");
    let name = plain;
    for (let number = 2; taken.has(name.toLowerCase()); number++) name = `${plain}-${number}`;
    taken.add(name.toLowerCase());
    return name + suffix;
  });
}

/** Writes one file, where the person chooses if the browser can ask, and else among the downloads. */
async function saveFile(name, text) {
  if (!window.showSaveFilePicker) return download(name, new Blob([text], { type: "application/json" }));
  const types = [{ description: "COCO", accept: { "application/json": [".json"] } }];
  const file = await showSaveFilePicker({ suggestedName: name, types });
  await write(file, text);
  return file.name;
}

/** Writes files, as [name, text], into a folder that the person chooses if the browser can ask, and else a ZIP. */
async function saveFolder(name, files) {
  if (!window.showDirectoryPicker) return download(`${name}.zip`, zip(files));
  const folder = await showDirectoryPicker({ mode: "readwrite" });
  for (const [each, text] of files) await write(await folder.getFileHandle(each, { create: true }), text);
  return folder.name;
}

async function write(file, text) {
  const stream = await file.createWritable();
  await stream.write(text);
  await stream.close();
}

function download(name, blob) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return name;
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** A ZIP of files [name, text], not compressed (PKWARE's APPNOTE 6.3, sections 4.3.7, 4.3.12 and 4.3.16). */
function zip(files) {
  const encoder = new TextEncoder();
  const numbers = (...fields) => {
    const bytes = new DataView(new ArrayBuffer(fields.reduce((sum, [size]) => sum + size, 0)));
    let at = 0;
    for (const [size, value] of fields) {
      if (size === 2) bytes.setUint16(at, value, true);
      else bytes.setUint32(at, value, true);
      at += size;
    }
    return bytes;
  };
  const body = [];
  const directory = [];
  let offset = 0;
  for (const [name, text] of files) {
    const [title, content] = [encoder.encode(name), encoder.encode(text)];
    const crc = ~content.reduce((sum, byte) => CRC[(sum ^ byte) & 255] ^ (sum >>> 8), -1) >>> 0;
    // Version 2.0, names in UTF-8, stored; 1 January 1980; sizes.
    const common = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 33], [4, crc], [4, content.length], [4, content.length]];
    const local = numbers([4, 0x04034b50], ...common, [2, title.length], [2, 0]);
    body.push(local, title, content);
    const rest = [[2, title.length], [2, 0], [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]];
    directory.push(numbers([4, 0x02014b50], [2, 20], ...common, ...rest), title);
    offset += local.byteLength + title.length + content.length;
  }
  const size = directory.reduce((sum, each) => sum + each.byteLength, 0);
  const end = [[4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, offset], [2, 0]];
  return new Blob([...body, ...directory, numbers(...end)], { type: "application/zip" });
}
