// Reads queries, a JSON list of [language, query], and prints a list of the texts that Grafana's parser takes for errors.
const parsers = {
  logql: require("@grafana/lezer-logql").parser,
  traceql: require("@grafana/lezer-traceql").parser,
};

function errors(language, query) {
  const found = [];
  parsers[language].parse(query).iterate({
    enter(node) {
      if (node.type.isError) found.push(`${node.from}: ${query.slice(node.from, node.to + 20)}`);
    },
  });
  return found;
}

const queries = JSON.parse(require("node:fs").readFileSync(0, "utf-8"));
console.log(JSON.stringify(queries.map(([language, query]) => errors(language, query))));
