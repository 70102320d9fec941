import {loadConfig} from './src/cli/config.ts'
import {formatProblem} from './src/cli/config-problem.ts'
for (const f of process.argv.slice(2)) { const t=performance.now(); const r=await loadConfig({file:f,env:process.env,cwd:process.cwd()}); console.log(performance.now()-t); if(r.ok) console.dir(r.config,{depth:9}); else console.log(r.problems.map(formatProblem).join('\n')) }
