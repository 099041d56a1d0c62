/**
 * Pack a folder's files into a zip while it is sent: nothing is compressed, since images are already, so every offset is
 * known from the sizes alone. `slice(start, end)` reads only the files that lie there; any part can be read again.
 */

const TEXT = new TextEncoder();
const HEADER = 30, DESCRIPTOR = 16, DESCRIPTOR_64 = 24, ENTRY = 46, END = 22, END_64 = 56, LOCATOR_64 = 20;
const MOST = 0xffffffff, MOST_ENTRIES = 0xffff;
const UTF8_AND_DESCRIPTOR = 0x0808; // names are UTF-8; the checksum follows the data

const TABLE = Uint32Array.from({ length: 256 }, (_, number) => {
  let value = number;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** Return the CRC-32 of a file, which is read in pieces. */
async function checksum(file) {
  let crc = MOST;
  const reader = file.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return (crc ^ MOST) >>> 0;
    for (let at = 0; at < value.length; at += 1) crc = (crc >>> 8) ^ TABLE[(crc ^ value[at]) & 0xff];
  }
}

function record(size, fields) {
  const view = new DataView(new ArrayBuffer(size));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    else if (bytes === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
    at += bytes;
  }
  return view.buffer;
}

function stamp(file) {
  const then = new Date(Math.max(file.lastModified, Date.UTC(1980, 0, 2)));
  return [(then.getHours() << 11) | (then.getMinutes() << 5) | (then.getSeconds() >> 1), ((then.getFullYear() - 1980) << 9) | ((then.getMonth() + 1) << 5) | then.getDate()];
}

/** Mix a text into a number: files of other names, sizes or times give another one, with near certainty. */
function mix(crc, text) {
  return TEXT.encode(text).reduce((now, each) => ((now >>> 8) ^ TABLE[(now ^ each) & 0xff]) >>> 0, crc);
}

export class Zip {
  /** `files`: [{file, path}], whose paths become the names in the zip. */
  constructor(files) {
    this.mark = files.map(({ file, path }) => `${path} ${file.size} ${file.lastModified}`).reduce(mix, MOST) + ` ${files.length}`;
    let offset = 0;
    this.entries = files.map(({ file, path }) => {
      const name = TEXT.encode(path);
      const entry = { file, name, offset, is64: file.size >= MOST };
      entry.data = offset + HEADER + name.length;
      offset = entry.data + file.size + (entry.is64 ? DESCRIPTOR_64 : DESCRIPTOR);
      return entry;
    });
    this.directory = offset;
    const listed = this.entries.reduce((sum, each) => sum + ENTRY + each.name.length + sizeOfExtra(each), 0);
    this.is64 = offset >= MOST || this.entries.length >= MOST_ENTRIES;
    this.listed = listed;
    this.size = offset + listed + (this.is64 ? END_64 + LOCATOR_64 : 0) + END;
  }

  /** Return the bytes from `start` to `end` as a blob. */
  async slice(start, end) {
    const parts = [];
    const add = async (at, length, make) => {
      const [from, to] = [Math.max(start, at), Math.min(end, at + length)];
      if (from < to) parts.push(new Blob([await make()]).slice(from - at, to - at));
    };
    for (const entry of this.entries) {
      const { file, offset, data } = entry;
      if (data + file.size + DESCRIPTOR_64 <= start) continue;
      if (offset >= end) break;
      await add(offset, data - offset, () => this.writeHeader(entry));
      const [from, to] = [Math.max(start, data), Math.min(end, data + file.size)];
      if (from < to) parts.push(file.slice(from - data, to - data));
      await add(data + file.size, entry.is64 ? DESCRIPTOR_64 : DESCRIPTOR, () => writeDescriptor(entry));
    }
    await add(this.directory, this.size - this.directory, () => this.writeDirectory());
    return new Blob(parts);
  }

  writeHeader(entry) {
    const fields = [[4, 0x04034b50], [2, 20], [2, UTF8_AND_DESCRIPTOR], [2, 0], ...stamp(entry.file).map((each) => [2, each]), [4, 0], [4, 0], [4, 0], [2, entry.name.length], [2, 0]];
    return new Blob([record(HEADER, fields), entry.name]);
  }

  async writeDirectory() {
    const parts = [];
    for (const entry of this.entries) parts.push(await writeEntry(entry));
    const count = this.entries.length;
    if (this.is64) {
      const end = this.directory + this.listed;
      parts.push(record(END_64, [[4, 0x06064b50], [8, END_64 - 12], [2, 45], [2, 45], [4, 0], [4, 0], [8, count], [8, count], [8, this.listed], [8, this.directory]]));
      parts.push(record(LOCATOR_64, [[4, 0x07064b50], [4, 0], [8, end], [4, 1]]));
    }
    const short = Math.min(count, MOST_ENTRIES);
    parts.push(record(END, [[4, 0x06054b50], [2, 0], [2, 0], [2, short], [2, short], [4, Math.min(this.listed, MOST)], [4, this.is64 ? MOST : this.directory], [2, 0]]));
    return new Blob(parts);
  }
}

const sizeOfExtra = ({ is64, offset }) => (is64 || offset >= MOST ? 4 + 24 : 0);

async function writeDescriptor(entry) {
  entry.crc ??= await checksum(entry.file);
  const size = entry.is64 ? 8 : 4;
  return record(entry.is64 ? DESCRIPTOR_64 : DESCRIPTOR, [[4, 0x08074b50], [4, entry.crc], [size, entry.file.size], [size, entry.file.size]]);
}

async function writeEntry(entry) {
  entry.crc ??= await checksum(entry.file);
  const { file, name, offset, crc } = entry;
  const extra = sizeOfExtra(entry);
  const size = extra ? MOST : file.size;
  const fields = [[4, 0x02014b50], [2, 45], [2, 20], [2, UTF8_AND_DESCRIPTOR], [2, 0], ...stamp(file).map((each) => [2, each]), [4, crc], [4, size], [4, size], [2, name.length], [2, extra], [2, 0], [2, 0], [2, 0], [4, 0], [4, extra ? MOST : offset]];
  const more = extra ? record(extra, [[2, 1], [2, 24], [8, file.size], [8, file.size], [8, offset]]) : new Uint8Array();
  return new Blob([record(ENTRY, fields), name, more]);
}
